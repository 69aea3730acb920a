"""PHP: one command a cell."""

from sandbox_kernel.languages.base import Language, with_command_runner

LANGUAGE = with_command_runner(
    Language(
        name="php",
        display_name="PHP",
        file_extension=".php",
        mimetype="application/x-httpd-php-open",
        codemirror_mode={"name": "php", "startOpen": True},
        pygments_lexer="php",
        runner=(),
        image="sandbox-kernel/scripting",
        command=("php", "{file}"),
        opening="<?php ",
    )
)

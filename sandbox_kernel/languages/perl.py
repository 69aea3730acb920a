"""Perl: one command a cell."""

from sandbox_kernel.languages.base import Language, with_command_runner

LANGUAGE = with_command_runner(
    Language(
        name="perl",
        display_name="Perl",
        file_extension=".pl",
        mimetype="text/x-perl",
        codemirror_mode="perl",
        pygments_lexer="perl",
        runner=(),
        image="sandbox-kernel/scripting",
        command=("perl", "{file}"),
    )
)

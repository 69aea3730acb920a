"""Ruby: one command a cell."""

from sandbox_kernel.languages.base import Language, with_command_runner

LANGUAGE = with_command_runner(
    Language(
        name="ruby",
        display_name="Ruby",
        file_extension=".rb",
        mimetype="text/x-ruby",
        codemirror_mode="ruby",
        pygments_lexer="ruby",
        runner=(),
        image="sandbox-kernel/ruby",
        command=("ruby", "{file}"),
    )
)

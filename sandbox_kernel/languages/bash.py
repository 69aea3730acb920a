"""Bash: one command a cell."""

from sandbox_kernel.languages.base import Language, with_command_runner

LANGUAGE = with_command_runner(
    Language(
        name="bash",
        display_name="Bash",
        file_extension=".sh",
        mimetype="text/x-sh",
        codemirror_mode="shell",
        pygments_lexer="bash",
        runner=(),
        image="sandbox-kernel/shell",
        command=("bash", "{file}"),
        # Images without Bash have at least this.
        alternatives=("sh",),
    )
)

"""R: one command a cell."""

from sandbox_kernel.languages.base import Language, with_command_runner

LANGUAGE = with_command_runner(
    Language(
        name="r",
        display_name="R",
        file_extension=".r",
        mimetype="text/x-r-source",
        codemirror_mode="r",
        pygments_lexer="r",
        runner=(),
        image="sandbox-kernel/r",
        command=("Rscript", "{file}"),
        kernel_language="R",
    )
)

"""JavaScript by Node.js: one command a cell."""

from sandbox_kernel.languages.base import Language, with_command_runner

LANGUAGE = with_command_runner(
    Language(
        name="javascript",
        display_name="JavaScript",
        file_extension=".js",
        mimetype="text/javascript",
        codemirror_mode="javascript",
        pygments_lexer="javascript",
        runner=(),
        image="sandbox-kernel/javascript",
        command=("node", "{file}"),
        alternatives=("nodejs",),
    )
)

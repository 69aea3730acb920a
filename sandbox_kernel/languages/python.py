"""Python, which has a runner of its own: variables live from cell to cell."""

from sandbox_kernel.languages.base import Language

LANGUAGE = Language(
    name="python",
    display_name="Python",
    file_extension=".py",
    mimetype="text/x-python",
    codemirror_mode={"name": "ipython", "version": 3},
    pygments_lexer="ipython3",
    runner=("{python}", "{guest}/runners/python/__main__.py"),
    image="sandbox-kernel/python",
    # For images whose Python is too old for the supervisor.
    command=("python3", "{file}"),
    alternatives=("python", "python2"),
    ecosystem="pip",
    aliases=("py", "python3"),
)

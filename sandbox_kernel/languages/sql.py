"""SQL, which has a runner of its own: tables live from cell to cell."""

from sandbox_kernel.languages.base import Language

LANGUAGE = Language(
    name="sql",
    display_name="SQL",
    file_extension=".sql",
    mimetype="text/x-sql",
    codemirror_mode="sql",
    pygments_lexer="sql",
    image="sandbox-kernel/python",
    # For images without Python: a database in memory, gone after each cell.
    command=("sqlite3", "-batch", "-bail", "-init", "{file}", ":memory:", ""),
    runner=("{python}", "{guest}/runners/sql/__main__.py"),
    remedy=(
        "SQL needs Python 3 in the sandbox, and runs on DuckDB where Python's package duckdb "
        "is installed (pip install duckdb), else on SQLite."
    ),
)

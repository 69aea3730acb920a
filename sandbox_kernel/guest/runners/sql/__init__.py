"""SQL: one connection that all cells share, on DuckDB where the guest has it, else on SQLite.

    main ── server ── cells ── engine ── duckdb_engine | sqlite_engine ── files
              │         │
            worker    tables · errors · text         names: completion and inspection

Rule 1: statements run in a thread (`worker`), so that SIGINT is heard while an engine works.
Rule 2: what is shown is bounded here: rows, columns, the width of a cell. What is cut is said.
Rule 3: no network: engines install nothing, and load what they came with.
"""

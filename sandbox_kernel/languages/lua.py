"""Lua: one interpreter that all cells share."""

from sandbox_kernel.languages.base import Language

# The interpreter hears SIGINT once in each chunk that it runs, idle or not: so each interrupt
# uses one up. After the last, it ends, and a fresh one follows.
_INTERRUPTS = 250

LANGUAGE = Language(
    name="lua",
    display_name="Lua",
    file_extension=".lua",
    mimetype="text/x-lua",
    codemirror_mode="lua",
    pygments_lexer="lua",
    image="sandbox-kernel/scripting",
    command=("lua", "{file}"),
    # LuaJIT comes last: code that it has compiled cannot be interrupted.
    alternatives=("lua5.4", "lua5.3", "lua5.2", "lua5.1", "luajit"),
    interpreter=(
        "-e",
        "dofile([[{guest}/runners/interpreter/lua.lua]])",
        *("-e", "package.loaded.S()") * _INTERRUPTS,
    ),
    remedy="Install Lua (Debian: apt-get install lua5.4).",
)

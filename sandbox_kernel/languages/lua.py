"""Lua: one command a cell."""

from sandbox_kernel.languages.base import Language, with_command_runner

LANGUAGE = with_command_runner(
    Language(
        name="lua",
        display_name="Lua",
        file_extension=".lua",
        mimetype="text/x-lua",
        codemirror_mode="lua",
        pygments_lexer="lua",
        runner=(),
        image="sandbox-kernel/scripting",
        command=("lua", "{file}"),
        alternatives=("lua5.4", "lua5.3", "luajit"),
    )
)

"""TypeScript by Deno: its own Jupyter kernel inside the guest, behind the bridge."""

from sandbox_kernel.languages.base import Language

LANGUAGE = Language(
    name="deno",
    display_name="Deno",
    file_extension=".ts",
    mimetype="text/x.typescript",
    codemirror_mode="typescript",
    pygments_lexer="typescript",
    image="sandbox-kernel/deno",
    command=("deno", "run", "--allow-all", "{file}"),
    native_kernel=(
        # SIGINT would end it. It has TCP sockets only, and says that it is idle before it
        # has published what a cell showed.
        *("--interrupt=message", "--transport=tcp"),
        '--fence=try { Deno.jupyter.broadcast("sandbox_fence", {}) } catch { }',
        *("--env=DENO_NO_UPDATE_CHECK=1", "--env=DENO_NO_PROMPT=1"),
        *("deno", "jupyter", "--kernel", "--conn", "{connection_file}"),
    ),
    kernel_language="typescript",
    remedy="Install Deno: pip install deno.",
)

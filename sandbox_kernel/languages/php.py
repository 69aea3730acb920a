"""PHP: one interpreter that all cells share."""

from sandbox_kernel.languages.base import Language

LANGUAGE = Language(
    name="php",
    display_name="PHP",
    file_extension=".php",
    mimetype="application/x-httpd-php-open",
    # JupyterLab's own mode takes what comes before `<?php` for HTML, so that a cell would have
    # no colours. JavaScript's tells words, texts, numbers and comments of PHP apart.
    codemirror_mode="javascript",
    pygments_lexer="php-cell",  # as `highlighting` defines it
    image="sandbox-kernel/scripting",
    command=("php", "{file}"),
    opening="<?php ",
    # Before an empty script, so that STDIN and its like can be ours.
    interpreter=(
        "-d",
        "log_errors=0",
        "-d",
        "html_errors=0",
        "-d",
        "auto_prepend_file={guest}/runners/interpreter/php.php",
    ),
    remedy="Install PHP (Debian: apt-get install php-cli).",
)

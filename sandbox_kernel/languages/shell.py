"""Single shell commands, beside whatever language a session has. For nobody's cells.

Its name is none that a language may have, so it is in no list and stands in no one's way.
"""

from sandbox_kernel.languages.base import Language

LANGUAGE = Language(
    name="sh -c",
    display_name="Shell",
    file_extension=".sh",
    mimetype="text/x-sh",
    codemirror_mode="shell",
    pygments_lexer="sh",
    image="",
    command=("sh", "{file}"),
    # Without a name to be shown, nothing is said of how its cells run. As an argument, the
    # code needs no file: a full workspace can be cleared by a command.
    runner=(
        *("{python}", "-I", "-S", "{guest}/runners/command/__main__.py"),
        *("", ".sh", "", "sh", "-c", "{code}"),
    ),
)

"""Bash: one shell that all cells share, without a terminal."""

from sandbox_kernel.languages.base import Language

LANGUAGE = Language(
    name="bash",
    display_name="Bash",
    file_extension=".sh",
    mimetype="text/x-sh",
    codemirror_mode="shell",
    pygments_lexer="bash",
    image="sandbox-kernel/shell",
    command=("bash", "{file}"),
    # Images without Bash have at least this; it runs single commands, and keeps no state.
    alternatives=("sh",),
    simple_alternatives=("sh",),
    # Interactive, and our file in place of ~/.bashrc: bash.sh says why.
    interpreter=(
        *("--noprofile", "--noediting", "--rcfile"),
        *("{guest}/runners/interpreter/bash.sh", "-i"),
    ),
    aliases=("sh", "shell"),
    remedy="Install Bash (Debian: apt-get install bash; Alpine: apk add bash).",
)

"""Perl: one interpreter that all cells share."""

from sandbox_kernel.languages.base import Language

LANGUAGE = Language(
    name="perl",
    display_name="Perl",
    file_extension=".pl",
    mimetype="text/x-perl",
    codemirror_mode="perl",
    pygments_lexer="perl",
    image="sandbox-kernel/scripting",
    command=("perl", "{file}"),
    interpreter=("{guest}/runners/interpreter/perl.pl",),
    aliases=("pl",),
    remedy="Install Perl (Debian: apt-get install perl).",
)

"""LaTeX that MathJax or KaTeX typesets: formulas yes, links and styles no. Pure.

MathJax's extensions reach out of a formula: `\\href` links, `\\style` and `\\bbox` set CSS
(with urls: an exit for data), `\\class` and `\\cssId` take on the page's looks, `\\require`
loads code, `\\def` redefines macros for every later formula of the page.

JupyterLab typesets the text of html and markdown outputs too, so `disarm` is for those.
"""

from __future__ import annotations

import re

_DENIED = (
    # links and loading
    "href url require autoload includegraphics hyperref hyperlink "
    "htmlData htmlClass htmlId htmlStyle "
    # looks, attributes and interaction
    "style class cssId data bbox enclose unicode mmlToken texttip mathtip toggle tooltip "
    # definitions, which outlive their formula and can multiply
    "def edef gdef xdef let futurelet global long csname expandafter newcommand renewcommand "
    "providecommand newenvironment renewenvironment DeclareMathOperator DeclarePairedDelimiter "
    "DeclarePairedDelimiters DeclarePairedDelimiterX DeclarePairedDelimiterXPP Newextarrow "
    "newtagform renewtagform usetagform loop input include write openout read special"
).split()
_NAMES = "(?:" + "|".join(_DENIED) + ")(?![A-Za-z])"
# Pairs of backslashes are line breaks; an odd one begins a macro. Macros are letters only.
_MACRO = re.compile(rf"(?<!\\)(?:\\\\)*\\(?={_NAMES})")
# `\\href` is a line break to TeX, but a macro once a markdown parser took one backslash.
_ANY_MACRO = re.compile(rf"\\(?={_NAMES})")
# An invisible character between backslash and name: the reader sees the same, TeX does not.
_WORD_JOINER = "\u2060"


def is_harmless(text: str) -> bool:
    """Whether no macro in `text` reaches out of its formula."""
    return _MACRO.search(text) is None


def disarm(text: str) -> str:
    """`text` in which no denied macro is one any more; all else stays."""
    if "\\" not in text:
        return text
    return _ANY_MACRO.sub(lambda _: "\\" + _WORD_JOINER, text)


def is_free_of_macros(text: str) -> bool:
    """Whether not even a parser that takes backslashes away leaves a denied macro."""
    return _ANY_MACRO.search(text) is None

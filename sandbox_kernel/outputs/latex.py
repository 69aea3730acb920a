"""LaTeX that MathJax or KaTeX typesets: formulas yes, links and styles no. Pure.

MathJax's extensions reach out of a formula: `\\href` links, `\\style` and `\\bbox` set CSS
(with urls: an exit for data), `\\class` and `\\cssId` take on the page's looks, `\\require`
loads code, `\\def` redefines macros for every later formula of the page.

JupyterLab typesets the text of html and markdown outputs too, so `disarm` is for those.
"""

from __future__ import annotations

import re

_DENIED = frozenset(
    # links and loading
    "href url require autoload includegraphics hyperref hyperlink "
    "htmlData htmlClass htmlId htmlStyle "
    # looks, attributes and interaction
    "style class cssId data bbox enclose unicode mmlToken texttip mathtip toggle tooltip "
    # definitions, which outlive their formula and can multiply
    "def edef gdef xdef let futurelet global long csname expandafter newcommand renewcommand "
    "providecommand newenvironment renewenvironment DeclareMathOperator DeclarePairedDelimiter "
    "DeclarePairedDelimiters DeclarePairedDelimiterX DeclarePairedDelimiterXPP Newextarrow "
    "newtagform renewtagform usetagform loop input include write openout read special".split()
)
# As TeX reads: letters are a macro's name, as many as there are; two backslashes are a line break.
_TOKEN = re.compile(r"\\(?:([A-Za-z]+)|[^A-Za-z])", re.DOTALL)
# As a parser reads that took backslashes away before: any of them may begin a macro.
_NAME = re.compile(r"\\([A-Za-z]+)")
# An invisible character between backslash and name: the reader sees the same, TeX does not.
_WORD_JOINER = "\u2060"


def is_harmless(text: str) -> bool:
    """Whether no macro in `text` reaches out of its formula."""
    return _DENIED.isdisjoint(_TOKEN.findall(text))


def is_free_of_macros(text: str) -> bool:
    """Whether not even a parser that takes backslashes away leaves a denied macro."""
    return _DENIED.isdisjoint(_NAME.findall(text))


def disarm(text: str) -> str:
    """`text` in which no denied macro is one any more; all else stays."""
    return text if "\\" not in text else _NAME.sub(_disarm_one, text)


def _disarm_one(found: re.Match[str]) -> str:
    return f"\\{_WORD_JOINER}{found[1]}" if found[1] in _DENIED else found[0]

"""Markdown of a guest's: passed on when plainly harmless, else rendered and cleaned here. Pure.

A browser's markdown passes raw html, remote pictures and odd links on, and JupyterLab puts
formulas back into the finished html without quoting them: `[a](https://b/$"onclick="…$)`.
Mangling the dangerous parts means agreeing with every parser about what they are. So:

Rule 1: text that no parser could read anything else into than formatting and web links stays
`text/markdown`, to the byte.
Rule 2: all other text becomes html here, and is cleaned like any html.
"""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

from sandbox_kernel.outputs import latex

if TYPE_CHECKING:
    from markdown_it.rules_inline import StateInline

# The parser takes quadratic time for the worst text (`[[[[…`); this much takes it 0.4 s.
_MAX_PARSED = 40_000
_MAX_PASSED = 1024**2

# A tag, comment, processing instruction or autolink would begin so. Bare inline tags mean
# the same wherever they stand.
_MARKUP = re.compile(
    r"<(?!/?(?:b|i|u|s|em|strong|sub|sup|del|ins|kbd|br|hr)\s{0,3}/?>)[a-z/!?]", re.IGNORECASE
)
# Pictures, reference definitions, JupyterLab's own placeholders, diagrams.
_SPECIAL = re.compile(r"!\[|\]:|@@|mermaid", re.IGNORECASE)
_LINK = re.compile(r"\]\(")
_WEB_LINK = re.compile(
    r"\]\((?:https?://|mailto:)[^\s()<>\"'\\$`]+(?:\([\w,.-]*\)[^\s()<>\"'\\$`]*)?\)", re.IGNORECASE
)
# Some renderers write what follows a code fence into an attribute as it is.
_FENCE = re.compile(r"(?:`{3,}|~{3,})(?![`~]|[ \t]*[\w+#.-]*[ \t]*(?:\r?\n|$))")


def is_harmless(text: str) -> bool:
    """Whether no markdown renderer can make script, a request or a trap of `text`."""
    return (
        len(text) <= _MAX_PASSED
        and _MARKUP.search(text) is None
        and _SPECIAL.search(text) is None
        and all(_WEB_LINK.match(text, link.start()) for link in _LINK.finditer(text))
        and _FENCE.search(text) is None
        # A quote within a formula can end the attribute that the formula is put back into.
        and ('"' not in text or ("$" not in text and "\\" not in text))
        and latex.is_free_of_macros(text)
    )


def to_html(text: str) -> str:
    """`text` as html that is not yet clean; over-long text as the text it is."""
    stash: list[str] = []
    text = _DATA_URL.sub(lambda found: _put_aside(found[0], stash), text)
    if len(text) > _MAX_PARSED:
        return f"<pre>{escape(text)}</pre>"
    try:
        from markdown_it import MarkdownIt
    except ImportError:  # it comes with rich; without it the source is still readable
        return f"<pre>{escape(text)}</pre>"
    parser = MarkdownIt("commonmark", {"html": True, "breaks": True})
    parser.enable(["table", "strikethrough"])
    # The cleaner decides about urls; the parser's own check knows fewer pictures.
    parser.validateLink = lambda url: True  # type: ignore[method-assign]
    parser.inline.ruler.before("escape", "formula", _keep_formula)
    # What the guest makes of these names itself is a picture of its own: no harm.
    return _ASIDE.sub(lambda found: _take_back(found, stash), str(parser.render(text)))


# Pictures are no work for the parser, and would use up its bound.
_DATA_URL = re.compile(r"data:image/[a-z+]{1,12};base64,[A-Za-z0-9+/=]+")
_ASIDE = re.compile(r"data:image/aside-(\d{1,6})(?!\d)")


def _put_aside(url: str, stash: list[str]) -> str:
    stash.append(url)
    return f"data:image/aside-{len(stash) - 1}"


def _take_back(found: re.Match[str], stash: list[str]) -> str:
    number = int(found[1])
    return stash[number] if number < len(stash) else found[0]


_FORMULA = re.compile(
    r"\$\$[^$]{1,5000}\$\$|\$(?!\s)[^$]{1,1000}(?<![\s\\])\$(?!\d)"
    r"|\\\\\(.{1,500}?\\\\\)|\\\\\[.{1,500}?\\\\\]",
    re.DOTALL,
)


def _keep_formula(state: StateInline, silent: bool) -> bool:
    """Rule of the parser's: underscores and stars in a formula are no emphasis."""
    found = _FORMULA.match(state.src, state.pos) if state.src[state.pos] in "$\\" else None
    if found is None:
        return False
    if not silent:
        token = state.push("text", "", 0)
        token.content = found[0].replace("\\\\", "\\") if found[0].startswith("\\") else found[0]
    state.pos = found.end()
    return True

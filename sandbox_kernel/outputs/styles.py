"""CSS of a guest's: what colours and spaces a table, within its own output. Pure.

Rule 1: properties and functions are allowed by name. No `url()` (it fetches), no
`position` or negative space (it covers the page), no at-rules, no `content`.
Rule 2: a `<style>` block is written anew, each selector below a class that only this
output's wrapper has, with ids and class names that no page uses.
Rule 3: what is not understood is not guessed: a declaration is left out, a block of
rules with an unknown part is refused whole (and its html shown in an iframe).
"""

from __future__ import annotations

import re

_PROPERTIES = frozenset(
    "color background background-color opacity visibility display float clear cursor "
    "font font-family font-size font-style font-weight font-variant line-height letter-spacing "
    "text-align text-decoration text-transform text-indent text-overflow text-wrap text-shadow "
    "white-space word-break word-wrap word-spacing overflow-wrap hyphens tab-size direction "
    "vertical-align width height min-width max-width min-height max-height box-sizing "
    "overflow overflow-x overflow-y resize aspect-ratio object-fit "
    "table-layout border-collapse border-spacing caption-side empty-cells "
    "list-style list-style-type list-style-position "
    "flex flex-direction flex-wrap flex-grow flex-shrink flex-basis align-items align-content "
    "align-self justify-content justify-items justify-self order gap row-gap column-gap "
    "grid-template-columns grid-template-rows grid-column grid-row columns column-count "
    "padding padding-top padding-right padding-bottom padding-left "
    "margin margin-top margin-right margin-bottom margin-left "
    "border border-color border-style border-width border-radius outline "
    "border-top border-right border-bottom border-left "
    "border-top-color border-right-color border-bottom-color border-left-color "
    "border-top-style border-right-style border-bottom-style border-left-style "
    "border-top-width border-right-width border-bottom-width border-left-width "
    "border-top-left-radius border-top-right-radius "
    "border-bottom-left-radius border-bottom-right-radius".split()
)
_FUNCTIONS = frozenset(
    "rgb rgba hsl hsla linear-gradient radial-gradient calc min max clamp var repeat minmax".split()
)
_QUOTED = re.compile(r"'[\w .,-]*'|\"[\w .,-]*\"")
# No backslash (it spells `url` in other ways), no `@`, `<`, `;`, `{`.
_VALUE = re.compile(r"[\w\s#%.,()+*/!-]*")
_FUNCTION = re.compile(r"([\w-]*)\(")
_NEGATIVE = re.compile(r"(?:^|[\s,(])-[\d.]")
_MAX_VALUE = 500
_MAX_STYLE = 4_000
# A pandas Styler over 10,000 coloured cells writes 600 kB of rules.
MAX_BLOCK = 2 * 1024**2


def admit_declarations(text: str) -> str:
    """A `style` attribute's text with the harmless declarations only."""
    kept = (_admit_declaration(part) for part in text[:_MAX_STYLE].split(";"))
    return "; ".join(part for part in kept if part)


def _admit_declaration(text: str) -> str:
    name, colon, value = text.partition(":")
    name, value = name.strip().lower(), value.strip()
    if not colon or name not in _PROPERTIES or not is_harmless_value(value):
        return ""
    return f"{name}: {value}"


def is_harmless_value(value: str) -> bool:
    """Whether a property's value fetches nothing, ends nowhere else and covers nothing."""
    if len(value) > _MAX_VALUE:
        return False
    bare = _QUOTED.sub("", value)
    if _VALUE.fullmatch(bare) is None or _NEGATIVE.search(bare) is not None:
        return False
    if any(name.lower() not in _FUNCTIONS | {""} for name in _FUNCTION.findall(bare)):
        return False
    return _is_balanced(bare)


def _is_balanced(text: str) -> bool:
    depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            return False
    return depth == 0


_KNOWN_CLASS = re.compile(
    r"dataframe|data|blank|row_heading|col_heading|index_name|(?:row|col|level)\d+"
)
_CLASS = re.compile(r"[A-Za-z_][\w-]{0,63}")
_ID = re.compile(r"[A-Za-z_][\w-]{0,127}")


def map_class(name: str) -> str:
    """A class as it may appear: pandas' own stay, others get a prefix that no page's CSS has."""
    return name if _KNOWN_CLASS.fullmatch(name) else f"sk-c-{name}"


def map_classes(text: str) -> str:
    names = (name for name in text.split()[:32] if _CLASS.fullmatch(name))
    return " ".join(map(map_class, names))


def map_id(name: str) -> str | None:
    """An id that no script of the page looks up by accident, or None."""
    return f"sk-i-{name}" if _ID.fullmatch(name) else None


_RULE = re.compile(r"([^{}]*)\{([^{}]*)\}\s*")
# Not within parentheses, where `2n + 1` is a number.
_COMBINATOR = re.compile(r"(?:\s*[>+~]\s*|\s+)(?![^(]*\))")
_MAX_SELECTOR = 500
_COMPOUND = re.compile(
    r"(?:\*|[a-z][a-z0-9]*)?"
    r"(?:[.#][A-Za-z_][\w-]{0,127}"
    r"|:(?:hover|(?:first|last|only)-(?:child|of-type)"
    r"|nth-(?:last-)?(?:child|of-type)\([\dn+ -]{1,12}\)|nth-(?:child|of-type)\((?:even|odd)\)))*",
    re.IGNORECASE,
)
_NAME = re.compile(r"([.#])([A-Za-z_][\w-]*)")


def scope_block(css: str, scope: str) -> str | None:
    """The rules of a `<style>` block, each below class `scope`; None when one is not understood."""
    if len(css) > MAX_BLOCK or "\\" in css:
        return None
    css = _without_comments(css).strip()
    rules, position = [], 0
    while position < len(css):
        found = _RULE.match(css, position)
        selectors = found and _scope_selectors(found[1], scope)
        if found is None or selectors is None:
            return None
        declarations = admit_declarations(found[2])
        if declarations:
            rules.append(f"{selectors} {{ {declarations} }}")
        position = found.end()
    return "\n".join(rules)


def _without_comments(css: str) -> str:
    """One pass, as a regular expression over unclosed comments would take quadratic time."""
    pieces = css.split("/*")
    return " ".join([pieces[0], *(piece.partition("*/")[2] for piece in pieces[1:])])


def _scope_selectors(text: str, scope: str) -> str | None:
    scoped = []
    for selector in text.split(","):
        selector = selector.strip()
        if len(selector) > _MAX_SELECTOR:
            return None
        compounds = _COMBINATOR.split(selector)
        if not all(part and _COMPOUND.fullmatch(part) for part in compounds):
            return None
        scoped.append(f".{scope} {_NAME.sub(_map_name, selector)}")
    return ", ".join(scoped)


def _map_name(found: re.Match[str]) -> str:
    return f".{map_class(found[2])}" if found[1] == "." else f"#sk-i-{found[2]}"

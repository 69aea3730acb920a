"""Html of a guest's: cleaned, or framed when it needs what cleaning takes away. Pure.

Rule 1: tags, attributes, classes, styles and urls are allowed by name, by nh3 (an html5
parser). The regular expressions here only choose between cleaned and framed; whatever
they misjudge is safe both ways.
Rule 2: nothing loads by itself but pictures in `data:` urls. Links need a click and
open a new tab.
Rule 3: ids, classes and names cannot be mistaken for the page's own.
Rule 4: after cleaning no regular expression touches a tag.

The cleaner's parser takes quadratic time for text that nests or does not match, so only what
is plainly regular goes in at length; the rest is framed, which parses nothing.
"""

from __future__ import annotations

import re
from functools import partial

from sandbox_kernel.outputs import iframe, images, latex, styles
from sandbox_kernel.outputs.values import Unshowable, replace_surrogates

# Plotly's script is 4.8 MB and is in each html that brings its own; the frames' escaping and
# JSON's own add half.
MAX_HTML = 8 * 1024**2
# Measured for the worst text we know of each kind: under a second. A pandas table of 60 rows and
# 20 columns, its longest, is 40 kB; a Styler over 5,000 coloured cells 500 kB.
_MAX_CLEANED = 2 * 1024**2
_MAX_IRREGULAR_TAGS = 500
_MAX_TAGS = 100_000
_MAX_REFERENCES = 50_000
_MAX_NESTING = 100

# What loses its point without script, frames, forms or media. Handlers count inside of a tag only.
_ACTIVE = re.compile(
    r"<(?:script|iframe|frame|frameset|object|embed|applet|canvas|audio|video|form|input|button"
    r"|select|textarea|meta|link|base|template|dialog|math|marquee|xmp|plaintext)[\s>/]"
    r"|<[a-z][^<>]*[\s\"'/]on[a-z]+\s*=",
    re.IGNORECASE,
)
_REMOTE = re.compile(
    r"<(?:script|iframe|link|frame)\s[^<>]*(?:src|href)\s*=[\s\"']*(?:https?:)?//", re.IGNORECASE
)
_STYLE = re.compile(r"<style(?:\s[^<>]*)?>([^<]*)</style\s*>", re.IGNORECASE)
_SVG_TAGS = re.compile(r"<svg[\s>]|</svg\s*>", re.IGNORECASE)

_TAGS = frozenset(
    "a abbr address article aside b bdi bdo big blockquote br caption center cite code col "
    "colgroup dd del details dfn div dl dt em figcaption figure font footer h1 h2 h3 h4 h5 h6 "
    "header hr i img ins kbd li main mark nav ol p pre progress q rp rt ruby s samp section "
    "small span strike strong sub summary sup table tbody td tfoot th thead time tr tt u ul "
    "var".split()
)
# Their text is code or belongs to a control: nobody wants to read it.
_REMOVED_WITH_TEXT = frozenset(
    "script style template iframe object svg math title textarea select noscript noembed noframes "
    "xmp plaintext audio video canvas".split()
)
_ATTRIBUTES = {
    "*": {"class", "id", "style", "title", "dir", "lang", "align", "valign"},
    "a": {"href"},
    "img": {"src", "alt", "width", "height"},
    "table": {"border", "cellpadding", "cellspacing", "width", "bgcolor"},
    "td": {"colspan", "rowspan", "width", "height", "bgcolor", "headers"},
    "th": {"colspan", "rowspan", "width", "height", "bgcolor", "scope"},
    "tr": {"bgcolor"},
    "col": {"span", "width"},
    "colgroup": {"span", "width"},
    "ol": {"start", "type", "reversed"},
    "li": {"value"},
    "font": {"color", "size", "face"},
    "progress": {"value", "max"},
    "details": {"open"},
    "hr": {"width", "size"},
}
_LINK = re.compile(r"(?:https?://|mailto:)", re.IGNORECASE)
_SIMPLE = re.compile(r"[\w #%.,()-]{0,100}")
# Says in place of a picture from the network why it is not there.
_NO_PICTURE = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='230' height='22'%3E"
    "%3Crect width='100%25' height='100%25' fill='%23eee'/%3E%3Ctext x='6' y='15' font-size='12' "
    "font-family='sans-serif' fill='%23555'%3E[a remote picture is not loaded]%3C/text%3E%3C/svg%3E"
)


def admit_html(text: str) -> str:
    """`text/html` that may stand in a page with the server's rights.

    Raises:
        Unshowable: it is over `MAX_HTML`.
    """
    if len(text) > MAX_HTML:
        raise Unshowable("it is too large")
    if _is_short(text) and _ACTIVE.search(text) is None:
        cleaned = _clean_with_styles(_without_controls(text))
        if cleaned is not None:
            return cleaned
    return frame_html(text)


def frame_html(text: str) -> str:
    """`text` in the sandboxed frames, with a line below when it wants what they do not load."""
    framed = iframe.wrap(text)
    if _REMOTE.search(text) is not None:
        framed += "<p><i>[what this output loads from the network was not loaded: the output "
        framed += "policy is &quot;safe&quot;]</i></p>"
    return framed


def clean_html(text: str) -> str:
    """`text` cleaned, never framed: for places that hold a line, such as a widget's label.

    Raises:
        Unshowable: it would take too long to parse.
    """
    if not _is_short(text):
        raise Unshowable("it is too large")
    cleaned = _clean_with_styles(_without_controls(text), allow_unscoped=True)
    if cleaned is None:
        raise Unshowable("it is too large or too deeply nested")
    return cleaned


def _without_controls(text: str) -> str:
    return replace_surrogates(_CONTROLS.sub("", text))


_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")


def _clean_with_styles(text: str, *, allow_unscoped: bool = False) -> str | None:
    """Cleaned html below its own scope; None when it should rather be framed."""
    css = "\n".join(_STYLE.findall(text))
    text = _STYLE.sub("", text)
    scope = f"sk-scope-{_short_digest(css)}"
    rules = styles.scope_block(css, scope)
    is_scoped = rules is not None and "<style" not in text.lower()
    if not is_scoped and not allow_unscoped:
        return None
    text = _svgs_to_images(text)
    if not _is_cheap(text):
        return None
    cleaned = latex.disarm(_clean(text, has_rules=bool(rules)))
    if not rules:
        return cleaned
    return f'<style>{rules}</style><div class="{scope}">{cleaned}</div>'


def _short_digest(text: str) -> str:
    from hashlib import sha256

    return sha256(text.encode()).hexdigest()[:16]


def _svgs_to_images(text: str) -> str:
    """Each outermost `<svg>` as an `<img>`. One pass: an unclosed one ends it."""
    pieces: list[str] = []
    done = depth = start = 0
    for found in _SVG_TAGS.finditer(text):
        is_end = found[0].startswith("</")
        if not is_end and depth == 0:
            start = found.start()
        depth = max(0, depth + (-1 if is_end else 1))
        if is_end and depth == 0 and start >= done:
            pieces += text[done:start], _svg_to_image(text[start : found.end()])
            done = found.end()
            start = done
    return "".join([*pieces, text[done:]])


def _svg_to_image(svg: str) -> str:
    if "xmlns=" not in svg[:2000]:
        svg = f'{svg[:4]} xmlns="http://www.w3.org/2000/svg"{svg[4:]}'
    try:
        return images.admit_svg(svg)
    except Unshowable:
        return ""


def _is_short(text: str) -> bool:
    return len(text) <= _MAX_CLEANED and text.count("<") <= _MAX_TAGS


def _is_cheap(text: str) -> bool:
    """Whether the cleaner is done with `text` in a fraction of a second."""
    if text.count("&") > _MAX_REFERENCES:
        return False
    return text.count("<") <= _MAX_IRREGULAR_TAGS or _is_regular(text)


_TAG = re.compile(
    r"<(/?)([a-z][a-z0-9]*)"
    r"(?:\s+[\w:.-]+(?:=(?:\"[^\"<]*\"|'[^'<]*'|[\w#%.,:;/-]+))?)*\s*/?>",
    re.IGNORECASE,
)
_COMMENT = re.compile(r"<!--(?!-?>)[^<>]*-->")
_VOID = frozenset("br hr img col wbr".split())


def _is_regular(text: str) -> bool:
    """Whether every tag is closed in order and none nests deep: what libraries write."""
    text = _COMMENT.sub("", text)
    open_tags: list[str] = []
    count = 0
    for found in _TAG.finditer(text):
        count += 1
        name = found[2].lower()
        if name not in _TAGS:
            return False
        if name in _VOID:
            continue
        if not found[1]:
            open_tags.append(name)
        elif not open_tags or open_tags.pop() != name:
            return False
        if len(open_tags) > _MAX_NESTING:
            return False
    return not open_tags and count == text.count("<")


def _clean(text: str, *, has_rules: bool) -> str:
    import nh3

    return nh3.clean(
        text,
        tags=set(_TAGS),
        clean_content_tags=set(_REMOVED_WITH_TEXT),
        attributes=_ATTRIBUTES,
        attribute_filter=partial(_filter_attribute, has_rules),
        strip_comments=True,
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
        # Which of them where is `_filter_attribute`'s to say.
        url_schemes={"http", "https", "mailto", "data"},
    )


def _filter_attribute(has_rules: bool, tag: str, name: str, value: str) -> str | None:
    """The value that an attribute may have, or None. Called by nh3; must not raise."""
    if name == "style":
        return styles.admit_declarations(value) or None
    if name == "class":
        # Without rules of its own a class would only take on the page's looks.
        kept = styles.map_classes(value)
        return kept if has_rules else _only_known(kept)
    if name == "id":
        return styles.map_id(value) if has_rules else None
    if name == "href":
        return value if _LINK.match(value) else None
    if name == "src":
        return images.admit_data_url(value) or _NO_PICTURE
    if name in {"title", "alt"}:
        return value
    return value if _SIMPLE.fullmatch(value) else None


def _only_known(classes: str) -> str | None:
    return " ".join(name for name in classes.split() if not name.startswith("sk-c-")) or None

"""What a page would obey in html, and not only show: nothing, if the output policy is right."""

from __future__ import annotations

from html.parser import HTMLParser

_TAGS = {"script", "iframe", "object", "embed", "form", "base", "meta", "link", "style", "svg"}


def obeyed(html: str) -> list[str]:
    """Tags and attributes that run, load or lead somewhere but to a web page."""
    parser = _Parser()
    parser.feed(html)
    parser.close()
    return parser.found


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _TAGS:
            self.found.append(tag)
        for name, value in attrs:
            if not _is_allowed(name, value or ""):
                self.found.append(f"{tag} {name}={value}")


def _is_allowed(name: str, value: str) -> bool:
    if name == "href":
        return value.startswith(("http://", "https://", "mailto:"))
    if name == "src":
        return value.startswith("data:image/")
    return not name.startswith(("on", "data-", "form", "action", "srcset", "style"))

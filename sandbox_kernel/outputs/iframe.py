"""Html that needs script, in a frame that reaches nothing. Pure.

    the page                                origin of the Jupyter server
    └─ iframe sandbox="allow-scripts"       origin null: no cookies, no storage, no API
       └─ ours, without script              its Content-Security-Policy holds below, too
          └─ iframe sandbox="allow-scripts" the guest's html

Two frames, because a policy binds what a document loads but not where it navigates
itself: `location = "https://…/?data"` is an exit. That is `frame-src` of the *parent*, so
the parent is a document of ours that allows no frame but the one it begins with.

Rule 1: `allow-scripts` is the only token. No forms, popups, downloads, dialogs, navigation.
Rule 2: only what a picture, a font or a film needs is loaded, and only from `data:` and `blob:`.

What it cannot stop: script that keeps the processor busy, and `postMessage` to the page, which
JupyterLab ignores. `tests/outputs/test_iframe_in_chromium.py` tries all the exits we know.

Source: CSP level 3, 6.4.2 (frame-src); html standard, "initialise the document's policy
container" (a srcdoc document inherits its parent's policy).
"""

from __future__ import annotations

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; media-src data: blob:; connect-src 'none'; "
    "frame-src 'none'; child-src 'none'; worker-src 'none'; object-src 'none'; "
    "manifest-src 'none'; form-action 'none'; base-uri 'none'; webrtc 'block'"
)
HEIGHT_PX = 420

_META = (
    '<!doctype html><meta charset="utf-8">'
    f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_SECURITY_POLICY}">'
    '<meta http-equiv="x-dns-prefetch-control" content="off">'
    '<meta name="referrer" content="no-referrer">'
)
_FRAME = 'sandbox="allow-scripts" referrerpolicy="no-referrer" allow=""'
_STYLE = (
    "<style>html,body{margin:0;height:100%;overflow:hidden;background:#fff}"
    "iframe{display:block;border:0;width:100%;height:100%}</style>"
)


def wrap(html: str) -> str:
    """Html that shows `html`, whatever it is, in the frames above.

    The reader can drag the lower edge; no script of the page measures anything.
    """
    inner = _escape(_META + html, "'", "&#39;")
    outer = _escape(f"{_META}{_STYLE}<iframe {_FRAME} srcdoc='{inner}'></iframe>", '"', "&quot;")
    return (
        f'<div style="height: {HEIGHT_PX}px; resize: vertical; overflow: hidden">'
        f'<iframe {_FRAME} srcdoc="{outer}" '
        'style="display: block; border: 0; width: 100%; height: 100%"></iframe></div>'
    )


def _escape(text: str, quote: str, reference: str) -> str:
    """`text` for an attribute between `quote`s. Only `&` and the quote mean anything there."""
    return text.replace("&", "&amp;").replace(quote, reference)

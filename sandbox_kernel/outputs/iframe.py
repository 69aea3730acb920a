"""Html that needs script, in a frame that reaches nothing. Pure, but for a random nonce.

    the page                                 origin of the Jupyter server
    └─ iframe sandbox="allow-scripts"        origin null: no cookies, no storage, no API
       └─ ours, without script               its Content-Security-Policy holds below, too
          └─ iframe sandbox="allow-scripts"  the guest's html, let in by `frame_script`

Two frames, because a policy binds what a document loads but not where it navigates
itself: `location = "https://…/?data"` is an exit. That is `frame-src` of the *parent*, so
the parent is a document of ours that allows no frame but the one it begins with.

Rule 1: `allow-scripts` is the only token. No forms, popups, downloads, dialogs, navigation.
Rule 2: only what a picture, a font or a film needs is loaded, and only from `data:` and `blob:`.
Rule 3: no script runs but what `frame_script` runs; it says what it takes away and why.

What it cannot stop: script that keeps the processor busy, `postMessage` to the page, which
JupyterLab ignores, and, in browsers without Trusted Types, a host name that a `<link
rel=preconnect>` made by script looks up. `tests/outputs/test_iframe_in_chromium.py` tries all
the exits we know.

Source: CSP level 3, 6.4.2 (frame-src); html standard, "initialise the document's policy
container" (a srcdoc document inherits its parent's policy).
"""

from __future__ import annotations

import binascii
import secrets

from sandbox_kernel.outputs.frame_script import LOADER

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; media-src data: blob:; connect-src 'none'; "
    "frame-src 'none'; child-src 'none'; worker-src 'none'; object-src 'none'; "
    "manifest-src 'none'; form-action 'none'; base-uri 'none'; "
    "require-trusted-types-for 'script'; trusted-types own default"
)
# A script with a nonce may `import()` from anywhere, as the nonce goes along. What both
# policies allow is inline scripts with it.
_NO_REMOTE_SCRIPT = "script-src 'unsafe-inline' 'unsafe-eval'"
# Plotly's default is 450, matplotlib's 480; the reader can drag it.
HEIGHT_PX = 500

_HEAD = (
    '<!doctype html><meta charset="utf-8">'
    '<meta http-equiv="Content-Security-Policy" content="{policy}">'
    f'<meta http-equiv="Content-Security-Policy" content="{_NO_REMOTE_SCRIPT}">'
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
    nonce = secrets.token_hex(16)
    head = _HEAD.format(policy=CONTENT_SECURITY_POLICY.format(nonce=nonce))
    encoded = binascii.b2a_base64(html.encode("utf-8", "replace"), newline=False).decode("ascii")
    inner = f'{head}<body><script nonce="{nonce}" data-html="{encoded}">{LOADER}</script>'
    outer = f"{head}{_STYLE}<iframe {_FRAME} srcdoc='{_escape(inner, chr(39), '&#39;')}'></iframe>"
    return (
        f'<div style="height: {HEIGHT_PX}px; resize: vertical; overflow: hidden">'
        f'<iframe {_FRAME} srcdoc="{_escape(outer, chr(34), "&quot;")}" '
        'style="display: block; border: 0; width: 100%; height: 100%"></iframe></div>'
    )


def _escape(text: str, quote: str, reference: str) -> str:
    """`text` for an attribute between `quote`s. Only `&` and the quote mean anything there."""
    return text.replace("&", "&amp;").replace(quote, reference)

"""What guest html can do inside of the sandboxed frames, in a real Chromium.

The oracle is a server of ours: each probe tries to reach it under a path of its own. Every
probe has its twin, the same html in a page without the frames, which must get through:
so a probe that is merely broken cannot pass for a blocked one.
"""

from __future__ import annotations

import asyncio
import selectors
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sandbox_kernel.outputs import OutputPolicy, iframe
from tests.support.waiting import DEADLINE_S

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed"),
]
playwright_api = pytest.importorskip("playwright.sync_api")

# For a request on loopback, which takes milliseconds, when everything is loaded.
SETTLE_MS = 3_000


class Canary:
    """Notes what reaches it: HTTP by path, TCP and UDP by the port that `port` gave a probe."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.pages: dict[str, str] = {}
        self.changed = threading.Condition()
        self.is_closed = False
        self.selector = selectors.DefaultSelector()
        self.ports: dict[tuple[str, str], int] = {}
        canary = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = canary.pages.get(self.path, "").encode()
                if not body and self.path != "/favicon.ico":
                    canary.note(self.path.partition("?")[0])
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Access-Control-Allow-Origin", "*")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET
            do_OPTIONS = do_GET

            def log_message(self, *_arguments: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.threads = [
            threading.Thread(target=step, daemon=True)
            for step in (self.http.serve_forever, self._listen)
        ]
        for thread in self.threads:
            thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}"

    def port(self, kind: str, name: str) -> int:
        """A "tcp" or "udp" port; what arrives there is noted as `/kind/name`."""
        if (kind, name) not in self.ports:
            stream = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
            listener = socket.socket(socket.AF_INET, stream)
            listener.bind(("127.0.0.1", 0))
            if kind == "tcp":
                listener.listen()
            listener.setblocking(False)
            self.ports[kind, name] = listener.getsockname()[1]
            self.selector.register(listener, selectors.EVENT_READ, f"/{kind}/{name}")
        return self.ports[kind, name]

    def note(self, path: str) -> None:
        with self.changed:
            self.paths.append(path)
            self.changed.notify_all()

    def _listen(self) -> None:
        while not self.is_closed:
            for key, _events in self.selector.select(timeout=0.2):
                listener = key.fileobj
                assert isinstance(listener, socket.socket)
                with suppress(OSError):
                    if listener.type == socket.SOCK_STREAM:
                        listener.accept()[0].close()
                    else:
                        listener.recv(2048)
                self.note(key.data)

    def wait_for(self, paths: set[str], timeout_s: float) -> set[str]:
        """Those of `paths` that did not come in time."""
        with self.changed:
            self.changed.wait_for(lambda: paths <= set(self.paths), timeout_s)
            return paths - set(self.paths)

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.is_closed = True
        for thread in self.threads:
            thread.join(timeout=5)
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self.selector.close()


@pytest.fixture(scope="module")
def only_canary() -> Iterator[Canary]:
    canary = Canary()
    yield canary
    canary.close()


@pytest.fixture
def canary(only_canary: Canary) -> Canary:
    only_canary.paths.clear()
    return only_canary


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One page for all. Its profile is on disk, as a private window never preconnects."""
    asyncio.set_event_loop(None)
    with playwright_api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"),
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox"],
        )
        context.set_default_timeout(DEADLINE_S * 1000)
        yield context.pages[0]
        context.close()


def show(page: Any, canary: Canary, body: str) -> None:
    """Put `body` where a Jupyter server's page would have it: same site, inserted by script."""
    canary.pages["/page"] = "<!doctype html><title>host page</title><div id=output></div>"
    page.goto(f"{canary.url}/page")
    page.evaluate(
        "html => { const range = document.createRange();"
        " output.append(range.createContextualFragment(html)); }",
        body,
    )


RAN = "<script>document.documentElement.dataset.ran = 'yes'</script>"
# name -> html that tries to reach {url}/{hit} (or {tcp}, {udp}: ports of their own)
EXITS = {
    "fetch": "<script>fetch('{url}/{hit}')</script>",
    "fetch keepalive": "<script>fetch('{url}/{hit}', {{keepalive: true, "
    "mode: 'no-cors'}})</script>",
    "xhr": "<script>x = new XMLHttpRequest(); x.open('GET', '{url}/{hit}'); x.send()</script>",
    "beacon": "<script>navigator.sendBeacon('{url}/{hit}', 'data')</script>",
    "image": "<img src='{url}/{hit}'>",
    "image by script": "<script>new Image().src = '{url}/{hit}'</script>",
    "srcset": "<img srcset='{url}/{hit} 1x'>",
    "picture source": "<picture><source srcset='{url}/{hit}'><img></picture>",
    "svg image": "<svg><image href='{url}/{hit}' width=9 height=9 /></svg>",
    "svg use": "<svg><use href='{url}/{hit}#a' /></svg>",
    "css url": "<style>body {{ background: url({url}/{hit}) }}</style>x",
    "css import": "<style>@import '{url}/{hit}';</style>",
    "style sheet": "<link rel=stylesheet href='{url}/{hit}'>",
    "font": "<style>@font-face {{ font-family: f; src: url({url}/{hit}) }} p {{ font-family: f }}"
    "</style><p>x",
    "script": "<script src='{url}/{hit}'></script>",
    "module": "<script type=module>import '{url}/{hit}'</script>",
    "dynamic import": "<script>import('{url}/{hit}')</script>",
    "frame": "<iframe src='{url}/{hit}'></iframe>",
    "frame by script": "<script>f = document.createElement('iframe'); f.src = '{url}/{hit}';"
    "document.documentElement.append(f)</script>",
    "object": "<object data='{url}/{hit}'></object>",
    "embed": "<embed src='{url}/{hit}'>",
    "video": "<video src='{url}/{hit}' autoplay></video>",
    "poster": "<video poster='{url}/{hit}'></video>",
    "audio": "<script>new Audio('{url}/{hit}').play()</script>",
    "track": "<video src='data:video/mp4;base64,AA'><track default src='{url}/{hit}'></video>",
    "event source": "<script>new EventSource('{url}/{hit}')</script>",
    "web socket": "<script>new WebSocket('{ws}/{hit}')</script>",
    "form": "<form action='{url}/{hit}' id=f></form><script>f.submit()</script>",
    "form by button": "<form action='{url}/{hit}'><button id=b></button></form>"
    "<script>b.click()</script>",
    "own location": "<script>location = '{url}/{hit}'</script>",
    "location replace": "<script>location.replace('{url}/{hit}')</script>",
    "meta refresh": "<meta http-equiv=refresh content='0;url={url}/{hit}'>",
    "meta refresh by script": "<script>document.head.insertAdjacentHTML('beforeend', "
    "'<meta http-equiv=refresh content=\"0;url={url}/{hit}\">')</script>",
    "link click": "<a id=a href='{url}/{hit}'>x</a><script>a.click()</script>",
    "download": "<a id=a download href='{url}/{hit}'>x</a><script>a.click()</script>",
    "self by name": "<script>window.name = 'me'; open('{url}/{hit}', 'me')</script>",
    "prefetch": "<link rel=prefetch href='{url}/{hit}'>",
    "preload": "<link rel=preload as=image href='{url}/{hit}'>",
    "module preload": "<link rel=modulepreload href='{url}/{hit}'>",
    "worker": "<script>new Worker(URL.createObjectURL(new Blob([\"fetch('{url}/{hit}')\"])))"
    "</script>",
    "data frame": "<iframe src=\"data:text/html,<script>fetch('{url}/{hit}')</script>\"></iframe>",
    "blob frame": "<script>f = document.createElement('iframe'); f.src = URL.createObjectURL("
    "new Blob([\"<script>fetch('{url}/{hit}')</scr\" + 'ipt>'], {{type: 'text/html'}}));"
    "document.documentElement.append(f)</script>",
    "srcdoc frame": "<iframe srcdoc=\"<img src='{url}/{hit}'>\"></iframe>",
    "blob location": "<script>location = URL.createObjectURL(new Blob(["
    "\"<script>fetch('{url}/{hit}')</scr\" + 'ipt>'], {{type: 'text/html'}}))</script>",
    "javascript frame": "<iframe src=\"javascript:fetch('{url}/{hit}')\"></iframe>",
    "svg document": "<object data=\"data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'>"
    "<script>fetch('{url}/{hit}')</script></svg>\"></object>",
    "preconnect": "<link rel=preconnect href='{tcp}'>",
    "preconnect by script": "<script>l = document.createElement('link'); l.rel = 'preconnect';"
    "l.href = '{tcp}'; document.documentElement.append(l)</script>",
    "preconnect by html": "<script>document.body.insertAdjacentHTML('beforeend', "
    "'<link rel=preconnect href={tcp}>')</script>",
    "preconnect by write": "<script>document.write('<li'); document.write("
    "'nk rel=preconnect href={tcp}>')</script>",
    "preconnect by template": "<template id=t><link rel=preconnect href='{tcp}'></template>"
    "<script>document.body.append(document.getElementById('t').content)</script>",
    "preconnect by parser": "<script>document.body.append(new DOMParser().parseFromString("
    "'<link rel=preconnect href={tcp}>', 'text/html').head.firstChild)</script>",
    "preconnect by xml": "<script>document.body.append(new DOMParser().parseFromString("
    '\'<a xmlns:h="http://www.w3.org/1999/xhtml"><h:link rel="preconnect" href="{tcp}"/>'
    "</a>', 'text/xml').documentElement.firstChild)</script>",
    "preconnect by document": "<script>l = document.implementation.createDocument("
    "'http://www.w3.org/1999/xhtml', 'link').documentElement; l.setAttribute('rel', 'preconnect');"
    "l.setAttribute('href', '{tcp}'); document.body.append(l)</script>",
    "preconnect by namespace": "<script>l = document.createElementNS("
    "'http://www.w3.org/1999/xhtml', 'h:link'); l.setAttribute('rel', 'preconnect');"
    "l.setAttribute('href', '{tcp}'); document.body.append(l)</script>",
    "preconnect by element": "<script>class L extends HTMLLinkElement {{}};"
    "customElements.define('x-l', L, {{extends: 'link'}}); l = new L(); l.rel = 'preconnect';"
    "l.href = '{tcp}'; document.body.append(l)</script>",
    "preconnect by command": "<script>document.designMode = 'on'; document.body.append('x');"
    "getSelection().selectAllChildren(document.body); document.execCommand('insertHTML', false,"
    "'<link rel=preconnect href={tcp}>')</script>",
    "preconnect by lying text": "<script>n = 0; "
    "document.createElement({{toString: () => n++ ? 'link' :"
    "'b'}}); n = 0; l = document.createElement({{toString: () => n++ ? 'link' : 'b'}});"
    "l.rel = 'preconnect'; l.href = '{tcp}'; document.body.append(l)</script>",
    "preconnect by poisoned expressions": "<script>RegExp.prototype.exec = () => null;"
    "RegExp.prototype.test = () => false; String.prototype.replace = function () {{ return this }};"
    "RegExp.prototype[Symbol.replace] = (text) => text;"
    "Reflect.apply = (f, t, a) => f.call(t, 'link');"
    "Object.defineProperty(RegExp.prototype, 'flags', {{get: () => 'y'}});"
    "document.body.insertAdjacentHTML('beforeend', '<link rel=preconnect href={tcp}>');"
    "l = document.createElement('link'); l.rel = 'preconnect'; l.href = '{tcp}';"
    "document.body.append(l)</script>",
    "preconnect in a frame": "<iframe srcdoc=\"<link rel=preconnect href='{tcp}'>\"></iframe>",
    "dns prefetch": "<link rel=dns-prefetch href='{tcp}'>",
    "webrtc in a frame": '<iframe srcdoc="<script>c = new RTCPeerConnection({{iceServers: ['
    "{{urls: '{stun}'}}]}}); c.createDataChannel('x'); c.createOffer().then("
    'o => c.setLocalDescription(o))</script>"></iframe>',
    "webrtc in a script's frame": "<script>f = document.createElement('iframe');"
    "document.body.append(f); w = f.contentWindow; c = new w.RTCPeerConnection({{iceServers: ["
    "{{urls: '{stun}'}}]}}); c.createDataChannel('x'); c.createOffer().then("
    "o => c.setLocalDescription(o))</script>",
    "speculation rules": '<script type=speculationrules>{{"prefetch": [{{"source": "list",'
    '"urls": ["{url}/{hit}"]}}]}}</script>',
    "handler": "<body onload=\"fetch('{url}/{hit}')\">",
    "webrtc": "<script>c = new RTCPeerConnection({{iceServers: [{{urls: '{stun}'}}]}});"
    "c.createDataChannel('x'); c.createOffer().then(o => c.setLocalDescription(o))</script>",
}
# Chromium ignores these there, or wants https or a click: no twin that gets through.
WITHOUT_TWIN = {
    "svg use",
    "srcdoc frame",
    "javascript frame",
    "download",
    "poster",
    "track",
    "preconnect by lying text",
    "preconnect by command",
    "preconnect by poisoned expressions",
    "dns prefetch",
    "speculation rules",
}


def expected_path(name: str) -> str:
    kind = {"preconnect": "tcp", "webrtc": "udp"}.get(name.partition(" ")[0], "hit")
    return f"/{kind}/{slug(name)}"


def slug(name: str) -> str:
    return name.replace(" ", "-").replace("'", "")


def fill(name: str, canary: Canary) -> str:
    return EXITS[name].format(
        url=canary.url,
        hit=f"hit/{slug(name)}",
        ws=canary.url.replace("http", "ws"),
        tcp=f"http://127.0.0.1:{canary.port('tcp', slug(name))}",
        stun=f"stun:127.0.0.1:{canary.port('udp', slug(name))}",
    )


def guest_frames(page: Any) -> list[Any]:
    return [
        frame for frame in page.frames if frame.parent_frame and frame.parent_frame.parent_frame
    ]


def wait_until_loaded(page: Any, count: int) -> None:
    """Until there are `count` frames of guests, each with all of its document.

    Not "complete": a frame whose picture is refused may wait for it for ever.
    """
    end_s = time.monotonic() + DEADLINE_S
    while not _are_loaded(guest_frames(page), count):
        assert time.monotonic() < end_s, f"{len(guest_frames(page))} of {count} frames are there."
        page.wait_for_timeout(100)


def _are_loaded(frames: list[Any], count: int) -> bool:
    try:
        return len(frames) == count and all(
            frame.evaluate("document.readyState") != "loading" for frame in frames
        )
    except playwright_api.Error:  # one of them is being replaced
        return False


def test_nothing_in_the_frames_reaches_a_server(page: Any, canary: Canary) -> None:
    """All exits side by side, each in frames of its own; a hit's path says whose it is."""
    show(page, canary, "".join(iframe.wrap(RAN + fill(name, canary)) for name in EXITS))
    wait_until_loaded(page, len(EXITS))
    page.wait_for_timeout(SETTLE_MS)
    assert len(guest_frames(page)) == len(EXITS)
    assert canary.paths == []


def test_the_same_html_reaches_it_without_our_frames(page: Any, canary: Canary) -> None:
    """The twin: plain frames without sandbox or policy, again side by side."""
    names = sorted(set(EXITS) - WITHOUT_TWIN)
    for name in names:
        canary.pages[f"/probe/{slug(name)}"] = f"<!doctype html><body>{fill(name, canary)}"
    frames = "".join(f"<iframe src='/probe/{slug(name)}'></iframe>" for name in names)
    show(page, canary, frames)
    assert canary.wait_for({expected_path(name) for name in names}, timeout_s=DEADLINE_S) == set()


def only_guest_frame(page: Any) -> Any:
    page.wait_for_function("document.querySelector('iframe') !== null")
    frames = guest_frames(page)
    while not frames:
        page.wait_for_timeout(50)
        frames = guest_frames(page)
    frames[0].wait_for_selector("#ready", state="attached")
    return frames[0]


READY = "<p id=ready></p>"


def test_script_runs_in_the_frames_and_draws(page: Any, canary: Canary) -> None:
    html = """<canvas id=c width=200 height=100></canvas><script>
        let shared = 41; document.body.style.background = 'rgb(1, 2, 3)';
        c.getContext('2d').fillRect(0, 0, 9, 9);</script>
        <script type="application/json" id=data>{"n": 1}</script>
        <script>document.title = `${shared + JSON.parse(data.textContent).n}`;
        const dynamic = document.createElement('script');
        dynamic.textContent = 'window.dynamic = true'; document.body.append(dynamic);</script>
        <button id=b onclick="this.textContent = 'clicked'">x</button>"""
    show(page, canary, iframe.wrap(html + READY))
    frame = only_guest_frame(page)
    assert frame.title() == "42"
    assert frame.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(1, 2, 3)"
    frame.wait_for_function("window.dynamic")
    frame.click("#b")
    assert frame.inner_text("#b") == "clicked"
    assert frame.evaluate("innerWidth") > 600
    assert frame.evaluate("innerHeight") == iframe.HEIGHT_PX


ABOVE = {
    "read the page": "top.document.body.innerHTML",
    "read the parent": "parent.document.body.innerHTML",
    "move the page": "top.location.href = 'about:blank'",
    "move the parent": "parent.location.href = 'about:blank'",
    "cookies": "document.cookie",
    "storage": "localStorage.length",
    "databases": "await new Promise((yes, no) => { const r = indexedDB.open('x');"
    " r.onsuccess = yes; r.onerror = no })",
    "its own source's nonce": "if (!document.querySelector('[nonce]')) throw 'none'",
    "a second policy": "trustedTypes.createPolicy('own', {})",
    "inline code in a frame": "new RTCPeerConnection()",
}


@pytest.mark.parametrize("name", ABOVE)
def test_script_in_the_frames_cannot_touch_what_is_above(
    name: str, page: Any, canary: Canary
) -> None:
    attempt = f"""<script>(async () => {{ try {{ {ABOVE[name]}; window.result = 'worked' }}
        catch (error) {{ window.result = 'refused' }} }})()</script>"""
    show(page, canary, iframe.wrap(attempt + READY))
    frame = only_guest_frame(page)
    assert frame.wait_for_function("window.result").json_value() == "refused"
    assert page.title() == "host page"


def test_script_that_poisons_prototypes_never_sees_a_nonce(page: Any, canary: Canary) -> None:
    """Whoever holds an element with the nonce can read or clone it."""
    poison = """<script>
        window.seen = [];
        const note = (thing) => { if (thing instanceof HTMLScriptElement) seen.push(thing) };
        for (const owner of [Node, Element, HTMLElement, HTMLScriptElement, ShadowRoot, Function,
                             Document, DocumentFragment, Array, WeakSet, String])
          for (const name of Object.getOwnPropertyNames(owner.prototype)) {
            const was = Object.getOwnPropertyDescriptor(owner.prototype, name);
            if (was.configurable && name !== 'constructor') {
              const spied = {...was};
              for (const key of ['get', 'set', 'value'])
                if (typeof was[key] === 'function')
                  spied[key] = function (...items) {
                    if (this !== seen) note(this);
                    if (this !== seen) for (let i = 0; i < items.length; i++) note(items[i]);
                    return Reflect.apply(was[key], this, items);
                  };
              Object.defineProperty(owner.prototype, name, spied);
            }
          }
        </script><script>window.second = 1</script>
        <script>document.body.append(Object.assign(document.createElement('script'),
        {textContent: 'window.third = 1'}))</script>"""
    show(page, canary, iframe.wrap(poison + READY))
    frame = only_guest_frame(page)
    frame.wait_for_function("window.second && window.third")
    assert (
        frame.evaluate("seen.filter((one) => !document.documentElement.contains(one)).length") == 0
    )
    assert frame.evaluate("seen.length") > 0
    assert frame.evaluate("document.createElement('p').nonce === undefined")


def test_neither_popups_nor_dialogs_open(page: Any, canary: Canary) -> None:
    opened: list[Any] = []
    page.context.on("page", lambda popup: opened.append(popup))
    page.on("dialog", lambda dialog: (opened.append(dialog), dialog.dismiss()))
    html = "<script>window.result = [open('about:blank'), confirm('x'), prompt('x')]</script>"
    show(page, canary, iframe.wrap(html + READY))
    assert only_guest_frame(page).evaluate("window.result") == [None, False, None]
    assert opened == []


def test_cleaned_html_loads_nothing_and_runs_nothing(page: Any, canary: Canary) -> None:
    """What the policy makes of each exit, in the page itself and not in frames of ours."""
    policy = OutputPolicy("safe")
    shown = [
        str(policy.admit_bundle({mime_type: fill(name, canary)}, {})[0].get("text/html", ""))
        for name in EXITS
        for mime_type in ("text/html", "text/markdown")
    ]
    show(page, canary, "".join(shown))
    page.wait_for_timeout(SETTLE_MS)
    assert canary.paths == []
    assert page.title() == "host page"


def test_the_host_page_keeps_its_names(page: Any, canary: Canary) -> None:
    html = '<form name="cookie"><input name="body"></form><img name="forms"><a id="title">x</a>'
    shown = OutputPolicy("safe").admit_bundle({"text/html": f"<b>{html}</b>"}, {})[0]["text/html"]
    show(page, canary, shown)
    assert page.evaluate("typeof document.cookie") == "string"
    assert page.evaluate("window.title === undefined")

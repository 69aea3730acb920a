"""Files that a hostile cell leaves for the host: THREATS 26-33."""

import pytest

from sandbox_kernel import events
from sandbox_kernel.limits import MIB


async def shown(driver, code):
    cell = await driver.run(code)
    assert cell.outcome.status == "ok", cell.outcome.error
    assert (await driver.run("print('next')")).text() == "next\n"
    return cell.of(events.DisplayShown)


def text_of(displays):
    return "\n".join(str(display.bundle) for display in displays)


@pytest.mark.parametrize(
    "target",
    ["/etc/passwd", "../etc/passwd", "/proc/self/root/etc/passwd", "/proc/1/environ", "chain"],
)
async def test_a_link_is_not_followed(open_session, target):
    driver = await open_session()
    code = f"import os; os.symlink('/etc/passwd', 'chain'); os.symlink({target!r}, 'a.png')"
    assert await shown(driver, code) == []


async def test_a_regular_file_is_shown_by_the_same_watch(open_session):
    driver = await open_session()
    assert "note.txt" in text_of(await shown(driver, "open('note.txt', 'w').write('x'); None"))


async def test_what_is_no_regular_file_is_left_alone(open_session):
    driver = await open_session()
    code = (
        "import os, socket\nos.mkfifo('a.png')\n"
        "s = socket.socket(socket.AF_UNIX); s.bind('b.png'); os.mkdir('c.png')"
    )
    assert await shown(driver, code) == []


async def test_a_sparse_terabyte_is_a_line(open_session):
    driver = await open_session()
    [display] = await shown(driver, "open('huge.bin', 'wb').truncate(1 << 40); None")
    assert "huge.bin" in display.bundle["text/plain"]
    assert len(str(display)) < 10_000


async def test_a_file_that_cannot_be_read_is_a_line(open_session):
    driver = await open_session()
    displays = await shown(driver, "import os; open('x', 'w').write('y'); os.chmod('x', 0)")
    assert len(displays) == 1


async def test_a_swap_of_file_and_link_during_the_watch_shows_nothing_of_the_host(open_session):
    driver = await open_session()
    await driver.run(
        "import os, threading\n"
        "open('file.txt', 'w').write('own'); os.symlink('/etc/hostname', 'link.txt')\n"
        "def swap():\n"
        "    while True:\n"
        "        os.rename('file.txt', 't'); os.rename('link.txt', 'file.txt')\n"
        "        os.rename('t', 'link.txt')\n"
        "threading.Thread(target=swap, daemon=True).start(); None"
    )
    for _ in range(10):
        assert "root:" not in text_of((await driver.run("pass")).of(events.DisplayShown))


NAMES = [
    "new\\nline.png",
    "\\x1b]0;canary\\x07.png",
    "-rf.png",
    "<img src=x onerror=alert(1)>.png",
    "\\u202egnp.exe",
    "n" * 251 + ".png",
    "\\udcff.png",
    "a'b\"c&d.png",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
async def test_a_name_with_tricks_is_shown_harmless(open_session, name):
    driver = await open_session()
    code = f'open("{name.replace(chr(34), chr(92) + chr(34))}", "w").write("x"); None'
    [display] = await shown(driver, code)
    plain, html = display.bundle["text/plain"], display.bundle.get("text/html", "")
    assert not set(plain) & {"\x1b", "\x07", "\u202e", "\n"}
    assert "<img src=x" not in html
    (plain + html).encode()


async def test_a_decompression_bomb_is_not_shown_as_a_picture(open_session):
    driver = await open_session()
    code = (
        "import struct, zlib\n"
        "def chunk(k, d):\n"
        "    return struct.pack('>I', len(d)) + k + d + struct.pack('>I', zlib.crc32(k + d))\n"
        "def png(w, h): return (b'\\x89PNG\\r\\n\\x1a\\n'\n"
        "    + chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, 8, 2, 0, 0, 0))\n"
        "    + chunk(b'IDAT', zlib.compress(bytes(1000))) + chunk(b'IEND', b''))\n"
    )
    await driver.run(code)
    [bomb] = await shown(driver, "open('bomb.png', 'wb').write(png(50_000, 50_000)); None")
    assert "image/png" not in bomb.bundle
    [small] = await shown(driver, "open('small.png', 'wb').write(png(5, 5)); None")
    assert "image/png" in small.bundle


@pytest.mark.parametrize(
    "content",
    ["<html><script>canary()</script></html>", "GIF89", "%PDF-1.4 canary", "<?xml?><x/>"],
)
async def test_the_type_comes_from_the_bytes_and_not_from_the_name(open_session, content):
    driver = await open_session()
    [display] = await shown(driver, f"open('evil.png', 'w').write({content!r}); None")
    assert not any(kind.startswith("image/") for kind in display.bundle)
    assert "<script" not in display.bundle.get("text/html", "")


async def test_an_svg_with_script_becomes_an_image_that_runs_nothing(open_session):
    driver = await open_session()
    svg = "<svg xmlns='http://www.w3.org/2000/svg'><script>canary()</script></svg>"
    [display] = await shown(driver, f'open("a.svg", "w").write("{svg}"); None')
    assert "image/svg+xml" not in display.bundle
    assert "canary" not in display.bundle["text/html"]
    assert "<img" in display.bundle["text/html"]


async def test_a_file_too_large_to_show_is_a_line(open_session):
    driver = await open_session(artifact_bytes=1 * MIB)
    code = "open('big.png', 'wb').write(b'\\x89PNG\\r\\n\\x1a\\n' + bytes(2 << 20)); None"
    [display] = await shown(driver, code)
    assert "image/png" not in display.bundle
    assert "2 MiB" in display.bundle["text/plain"]

"""Files: what a cell made, and what the host asks for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox_kernel.guest.framing import Kind
from sandbox_kernel.guest.workspace import FileRefused, Workspace, file_clock_ns, looks_like_picture
from tests.guest.support import Guest, poll

StartGuest = Callable[..., Guest]

PNG = b"\x89PNG\r\n\x1a\n"


# -- what a cell made


def test_a_new_file_is_offered_after_all_output_and_before_the_end(guest: Guest) -> None:
    cell = guest.run("open('a.txt', 'w').write('hello')\nsend(STDOUT, cell, data=b'x')")
    assert cell.kinds == [Kind.STDOUT, Kind.REPLY, Kind.FILE_GENERATED, Kind.CELL_ENDED]
    assert cell.files == {"a.txt": (5, True, b"hello")}
    assert cell.end["receipt"]["files"] == 1


def test_a_file_is_offered_once_and_again_when_it_changed(guest: Guest) -> None:
    assert list(guest.run("open('a.txt', 'w').write('1')").files) == ["a.txt"]
    assert guest.run("pass").files == {}
    assert guest.run("open('a.txt')").files == {}
    assert guest.run("open('a.txt', 'w').write('2')").files["a.txt"][2] == b"2"
    assert list(guest.run("os.rename('a.txt', 'b.txt')").files) == ["b.txt"]
    assert guest.run("os.unlink('b.txt')").files == {}


def test_a_change_that_resets_times_is_seen_all_the_same(guest: Guest) -> None:
    guest.run("open('a.txt', 'w').write('1')\nstatus = os.stat('a.txt')")
    code = "open('a.txt', 'w').write('2')\n"
    code += "os.utime('a.txt', ns=(status.st_atime_ns, status.st_mtime_ns))"
    assert guest.run(code).files["a.txt"][2] == b"2"


def test_files_come_in_the_order_in_which_they_were_written(guest: Guest) -> None:
    code = "for n in 'cab':\n    open(n, 'w').close()\n    time.sleep(0.03)"
    assert list(guest.run(code).files) == ["c", "a", "b"]


def test_files_in_directories_are_offered_with_their_path(guest: Guest) -> None:
    cell = guest.run("os.makedirs('out/deep')\nopen('out/deep/a.txt', 'w').write('x')")
    assert cell.files == {"out/deep/a.txt": (1, True, b"x")}


def test_silent_cells_and_hidden_files_offer_nothing(guest: Guest) -> None:
    assert guest.run("open('a.txt', 'w').write('x')", silent=True).files == {}
    code = "for name in ('.hidden', '.git', '__pycache__'):\n"
    code += "    os.mkdir(name + '.d' if name == '.hidden' else name)\n"
    code += "open('.hidden', 'w').close()\nopen('.git/config', 'w').close()\n"
    code += "open('__pycache__/a.pyc', 'w').close()"
    assert guest.run(code).files == {}


def test_pictures_come_whole_and_other_large_files_as_a_head(guest: Guest) -> None:
    code = f"open('a.png', 'wb').write({PNG!r} + bytes(200000))\n"
    code += "open('b.bin', 'wb').write(bytes(200000))\nopen('c.txt', 'w').write('x' * 65536)"
    files = guest.run(code).files
    assert files["a.png"] == (200008, True, PNG + bytes(200000))
    assert files["b.bin"] == (200000, False, bytes(65536))
    assert files["c.txt"][1] is True


def test_a_picture_over_the_limit_comes_as_a_head(start_guest: StartGuest) -> None:
    guest = start_guest(limits={"artifact_bytes": 100_000})
    size, is_whole, content = guest.run(
        f"open('a.png', 'wb').write({PNG!r} + bytes(100000))"
    ).files["a.png"]
    assert (size, is_whole, len(content)) == (100_008, False, 65536)


def test_more_files_than_the_limit_are_counted(start_guest: StartGuest) -> None:
    guest = start_guest(limits={"artifacts": 3})
    cell = guest.run("for n in range(10): open('f%d' % n, 'w').close()")
    assert len(cell.files) == 3
    assert cell.notice("files_omitted")["count"] == 7


def test_a_cells_files_wait_while_the_host_does_not_read(start_guest: StartGuest) -> None:
    guest = start_guest()
    code = f"for n in range(10): open('f%d.png' % n, 'wb').write({PNG!r} + bytes(5 << 20))"
    cell = guest.start(code)
    other = guest.start("pass")
    status_path = f"/proc/{guest.process.pid}/statm"
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        with open(status_path) as file:
            assert int(file.read().split()[1]) * 4096 < 64 << 20
    assert len(guest.finish(cell).files) == 10
    assert guest.finish(other).outcome == "ok"


HOSTILE = """
os.symlink('/etc/passwd', 'link.png')
os.symlink('/proc/self/root/etc', 'dir')
os.symlink('.', 'loop')
os.mkfifo('a.png')
sock = socket.socket(socket.AF_UNIX); sock.bind('socket.png')
open('hidden.txt', 'w').write('secret'); os.chmod('hidden.txt', 0)
with open('sparse.bin', 'wb') as f: f.truncate(1 << 40)
open('one', 'w').write('1'); os.link('one', 'two')
"""


def test_only_regular_files_are_offered_and_links_lead_nowhere(guest: Guest) -> None:
    cell = guest.run(HOSTILE)
    assert sorted(cell.files) == ["hidden.txt", "one", "sparse.bin", "two"]
    assert cell.files["sparse.bin"] == (1 << 40, False, bytes(65536))
    assert cell.files["hidden.txt"][0] == 6


def test_names_of_any_bytes_survive_the_frame(guest: Guest) -> None:
    names = [b"new\nline", b"\x1b[31mred", b"-rf", b"\xff\xfe", b"<img onerror=x>", b"x" * 255]
    names += ["\u202egnp.exe".encode(), b"caf\xc3\xa9"]
    cell = guest.run(f"for name in {names!r}: open(name, 'w').close()")
    assert {os.fsencode(name) for name in cell.files} == set(names)


def test_a_swarm_of_files_is_not_walked_for_ever(guest: Guest) -> None:
    cell = guest.run("for n in range(12000): open('f%05d' % n, 'w').close()")
    assert len(cell.files) <= 50
    assert cell.notice("files_omitted")["is_complete"] is False

    def seconds() -> float:
        started = time.monotonic()
        guest.run("pass")
        return time.monotonic() - started

    # Of several, since the machine may stand still in one.
    assert min(seconds() for _ in range(4)) < 2


def test_a_deep_tree_is_not_walked_to_its_end(guest: Guest) -> None:
    code = "for n in range(200):\n    os.mkdir('d')\n    os.chdir('d')\n    open('f', 'w').close()"
    cell = guest.run(code)
    assert 10 <= len(cell.files) <= 16
    assert cell.notice("files_omitted")["is_complete"] is False


def test_a_file_that_grows_while_it_is_read_is_cut_at_its_size(guest: Guest) -> None:
    code = "def grow():\n    with open('growing.png', 'ab', 0) as f:\n"
    code += "        while not os.path.exists('.stop') and f.tell() < 1 << 28:\n"
    code += "            f.write(bytes(65536))\n"
    code += f"open('growing.png', 'wb').write({PNG!r})\n"
    code += "threading.Thread(target=grow, daemon=True).start()\ntime.sleep(0.05)"
    size, is_whole, content = guest.run(code).files["growing.png"]
    (guest.workspace / ".stop").touch()
    assert len(content) <= size
    assert is_whole == (len(content) == size)


def test_a_file_swapped_with_a_link_during_the_walk_never_leads_out(
    guest: Guest, tmp_path: Path
) -> None:
    (tmp_path / "canary").write_text("CANARY")
    code = "import ctypes\nlibc = ctypes.CDLL(None)\nopen('.a', 'w').write('mine')\n"
    code += f"os.symlink({str(tmp_path / 'canary')!r}, '.b')\nos.link('.a', 'a.txt')\n"
    code += "os.rename('.b', 'b.txt')\nswap = (-100, b'a.txt', -100, b'b.txt', 2)\n"
    code += "def turn():\n    while not os.path.exists('.stop'): libc.renameat2(*swap)\n"
    code += "threading.Thread(target=turn, daemon=True).start()"
    guest.run(code)
    for _ in range(50):
        guest.run("open('.a', 'w').write('mine')")
    (guest.workspace / ".stop").touch()
    contents = {frame.data for frame in guest.of_kind(Kind.FILE_GENERATED)}
    assert contents <= {b"mine", b""}


def test_an_empty_workspace_costs_next_to_nothing(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    since_ns = file_clock_ns()

    def is_quick() -> bool:
        started = time.perf_counter()
        workspace.changes(since_ns)
        return time.perf_counter() - started < 50e-6

    poll(lambda: any(is_quick() for _ in range(50)))  # in a moment that is not somebody else's
    os.close(workspace.fd)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (PNG, True),
        (b"\xff\xd8\xff\xe0", True),
        (b"GIF89a", True),
        (b"RIFF1234WEBP", True),
        (b"RIFF1234WAVE", False),
        (b"<svg xmlns=...", True),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg", True),
        (b"<html><svg>", False),
        (b"<?xml version='1.0'?><feed>", False),
        (b"", False),
        (b"a,b\n1,2\n", False),
    ],
)
def test_a_picture_is_told_by_its_first_bytes(head: bytes, expected: bool) -> None:
    assert looks_like_picture(head) is expected


# -- what the host asks for


def test_what_the_host_writes_it_reads_and_lists_and_no_cell_made_it(guest: Guest) -> None:
    meta = {"name": "in/data.csv", "offset": 0, "truncate": True}
    assert guest.request(Kind.FILE_WRITE, meta, b"a,b\n").read_meta() == {"size": 4}
    cell = guest.run("send(STDOUT, cell, data=open('in/data.csv', 'rb').read())")
    assert cell.stdout == b"a,b\n"
    assert cell.files == {}
    answer = guest.request(Kind.FILE_READ, {"name": "in/data.csv", "offset": 0, "length": 100})
    assert (answer.read_meta(), answer.data) == ({"size": 4, "eof": True}, b"a,b\n")
    listing = guest.request(Kind.FILE_LIST).read_meta()
    assert listing["is_complete"] is True
    [file] = listing["files"]
    assert (file["name"], file["size"]) == ("in/data.csv", 4)
    assert abs(file["mtime_s"] - time.time()) < 60
    assert guest.request(Kind.FILE_REMOVE, {"name": "in/data.csv"}).kind == Kind.ANSWER
    assert guest.request(Kind.FILE_LIST).read_meta()["files"] == []


def test_a_large_file_goes_both_ways_in_pieces(guest: Guest) -> None:
    content = os.urandom(3 * 2**20 + 5)
    for offset in range(0, len(content), 2**20):
        meta = {"name": "big", "offset": offset, "truncate": offset == 0}
        guest.request(Kind.FILE_WRITE, meta, content[offset : offset + 2**20])
    back = b""
    while True:
        meta = {"name": "big", "offset": len(back), "length": 2**30}
        answer = guest.request(Kind.FILE_READ, meta)
        assert len(answer.data) <= 2**20
        back += answer.data
        if answer.read_meta()["eof"]:
            break
    assert back == content


def test_writing_again_truncates_when_asked_and_only_then(guest: Guest) -> None:
    for truncate, expected in ((True, b"long"), (False, b"abng"), (True, b"ab")):
        data = b"long" if expected == b"long" else b"ab"
        meta = {"name": "f", "offset": 0, "truncate": truncate}
        guest.request(Kind.FILE_WRITE, meta, data)
        assert guest.request(Kind.FILE_READ, {"name": "f"}).data == expected


def test_files_are_served_while_a_cell_runs(guest: Guest) -> None:
    guest.start("open('made', 'w').write('x')\nsend(STDOUT, cell, data=b'on')\ntime.sleep(60)")
    guest.wait_kind(Kind.STDOUT)
    assert guest.request(Kind.FILE_READ, {"name": "made"}).data == b"x"


@pytest.mark.parametrize("kind", [Kind.FILE_READ, Kind.FILE_WRITE, Kind.FILE_REMOVE])
@pytest.mark.parametrize(
    "name",
    [
        *("../outside", "/etc/passwd", "a/../../outside", "", ".", "..", "a//b", "link/outside"),
        *("\0", "a\0b", "d/" * 20 + "x", "\ud800", 7, None, ["x"]),
    ],
)
def test_a_name_that_is_no_path_inside_is_refused(
    guest: Guest, tmp_path: Path, kind: int, name: object
) -> None:
    (tmp_path / "outside").write_text("untouched")
    (guest.workspace / "link").symlink_to(tmp_path)
    answer = guest.request(kind, {"name": name, "truncate": True}, b"x")
    assert answer.kind == Kind.REFUSAL
    assert answer.read_meta()["reason"].endswith(".")
    assert (tmp_path / "outside").read_text() == "untouched"
    # The twin: an honest name is served by the same supervisor.
    assert guest.request(Kind.FILE_WRITE, {"name": "inside"}, b"x").kind == Kind.ANSWER
    assert guest.request(kind, {"name": "inside"}).kind == Kind.ANSWER


def test_symlinks_fifos_and_directories_are_neither_read_nor_written(
    guest: Guest, tmp_path: Path
) -> None:
    (tmp_path / "outside").write_text("untouched")
    (guest.workspace / "link").symlink_to(tmp_path / "outside")
    (guest.workspace / "dir").mkdir()
    os.mkfifo(guest.workspace / "fifo")
    for name in ("link", "dir", "fifo"):
        for kind in (Kind.FILE_READ, Kind.FILE_WRITE):
            assert guest.request(kind, {"name": name}, b"x").kind == Kind.REFUSAL
    # Removing a link removes the link.
    assert guest.request(Kind.FILE_REMOVE, {"name": "link"}).kind == Kind.ANSWER
    assert guest.request(Kind.FILE_REMOVE, {"name": "dir"}).kind == Kind.REFUSAL
    assert (tmp_path / "outside").read_text() == "untouched"


@pytest.mark.parametrize("offset", [-1, 2**63, "0", 1.5, True, None])
def test_an_offset_that_is_none_is_refused(guest: Guest, offset: object) -> None:
    for kind in (Kind.FILE_READ, Kind.FILE_WRITE):
        assert guest.request(kind, {"name": "f", "offset": offset}).kind == Kind.REFUSAL


def test_a_missing_file_is_refused_with_the_reason(guest: Guest) -> None:
    answer = guest.request(Kind.FILE_READ, {"name": "nothing"})
    assert "No such file" in answer.read_meta()["reason"]


def test_a_list_of_a_swarm_is_cut_and_says_so(guest: Guest) -> None:
    guest.run("for n in range(11000): open('f%05d' % n, 'w').close()")
    listing = guest.request(Kind.FILE_LIST).read_meta()
    assert listing["is_complete"] is False
    assert 9_000 < len(listing["files"]) <= 10_000


def test_a_list_of_long_names_fits_into_a_frame(guest: Guest) -> None:
    code = "path = '/'.join([chr(0xff) * 120] * 12)\nos.makedirs(path)\n"
    code += "fd = os.open(path, os.O_RDONLY)\n"
    code += "for n in range(3000): os.close(os.open('%d' % n, os.O_CREAT, dir_fd=fd))"
    assert guest.run(code).outcome == "ok"
    assert guest.request(Kind.FILE_LIST).read_meta()["is_complete"] is False


def test_walking_up_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    with pytest.raises(FileRefused):
        workspace.read_file("../x", 0, 1)
    os.close(workspace.fd)

"""Files of a guest on the host, and a caller's in the guest: each where it belongs."""

import asyncio
import os
import stat
from pathlib import Path

import pytest

from sandbox_kernel.cli.run import printable
from sandbox_kernel.engine.files import SessionFiles, changes, write_new
from sandbox_kernel.errors import (
    FileRefused,
    FileTooLarge,
    RequestRefused,
    SessionClosed,
    SettingsError,
)
from sandbox_kernel.session import FileEntry
from tests.support.waiting import DEADLINE_S


def test_a_file_arrives_under_its_name(tmp_path: Path):
    path = write_new(tmp_path / "new", "charts/a b.png", b"content")
    assert path == tmp_path / "new" / "charts" / "a b.png"
    assert path.read_bytes() == b"content"


def test_a_file_is_not_executable(tmp_path):
    path = write_new(tmp_path, "run.sh", b"#!/bin/sh")
    assert not stat.S_IMODE(path.stat().st_mode) & 0o111


@pytest.mark.parametrize(
    "name",
    [
        *("../a", "/etc/a", "a/../../b", "", ".", "..", "a/"),
        *("sitecustomize.py", "evil.pth", "a/conftest.py", "json.py"),
        *(".bashrc", "a/.git/hooks/post-checkout"),
        *("a\0b", "x" * 256, "\ud800", "/".join("a" * 40)),
    ],
)
def test_a_name_that_leaves_the_directory_is_refused(tmp_path, name):
    with pytest.raises(FileRefused):
        write_new(tmp_path / "out", name, b"")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_exists_is_not_overwritten(tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(FileRefused, match="not overwritten"):
        write_new(tmp_path, "a", b"theirs")
    assert (tmp_path / "a").read_text() == "mine"


def test_a_link_in_the_way_is_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    out = tmp_path / "out"
    out.mkdir()
    (out / "sub").symlink_to(outside)
    with pytest.raises(FileRefused, match="symbolic link"):
        write_new(out, "sub/a", b"")
    assert list(outside.iterdir()) == []


def test_a_dangling_link_is_not_written_through(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a").symlink_to(tmp_path / "target")
    with pytest.raises(FileRefused):
        write_new(out, "a", b"")
    assert not (tmp_path / "target").exists()


def test_no_descriptor_stays_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    for number in range(5):
        write_new(tmp_path, f"a/b/{number}", b"")
        with pytest.raises(FileRefused):
            write_new(tmp_path, f"a/b/{number}", b"")
    assert len(os.listdir("/proc/self/fd")) == before


def test_names_are_shown_without_what_moves_the_cursor():
    assert printable("a\x1b[2J\n\u202eb") == "a\\x1b[2J\\n\\u202eb"


# --- the workspace of a session ---------------------------------------------------------


async def test_files_are_written_read_listed_and_removed(engine):
    files = (await engine.create_session()).files
    await files.write("a.txt", "é")
    await files.write("d/b.bin", b"\xff\x00")
    assert await files.read("a.txt") == "é".encode()
    assert await files.read_text("d/b.bin") == "\ufffd\x00"
    assert await files.read_base64("d/b.bin") == "/wA="
    assert sorted((entry.name, entry.size) for entry in await files.list()) == [
        ("a.txt", 2), ("d/b.bin", 2),
    ]  # fmt: skip
    await files.remove("a.txt")
    with pytest.raises(RequestRefused):
        await files.read("a.txt")
    with pytest.raises(RequestRefused):
        await files.remove("a.txt")
    with pytest.raises(FileTooLarge, match="1 bytes"):
        await files.read("d/b.bin", limit_bytes=1)


@pytest.mark.parametrize("strategy", ["per_session", "per_execution"])
async def test_no_name_leaves_the_workspace(engine, strategy):
    files = (await engine.create_session(strategy=strategy)).files
    for name in ("../a", "/etc/passwd", "a/../../b", "", ".", "a/", "a\0b", "x" * 300, "\ud800"):
        for ask in (files.write(name, b"x"), files.read(name), files.remove(name)):
            with pytest.raises((RequestRefused, UnicodeError)):
                await ask
    assert await files.list() == []


async def test_no_link_of_the_guests_leads_a_caller_out(engine):
    session = await engine.create_session()
    await session.execute(
        "import os\nos.symlink('/etc/passwd', 'link'); os.symlink('/etc', 'dir'); os.mkfifo('fifo')"
    )
    for name in ("link", "dir/passwd", "fifo"):
        with pytest.raises(RequestRefused):
            await session.files.read(name)
        with pytest.raises(RequestRefused):
            await session.files.write(name, b"x")
    assert await session.files.list() == []


async def test_a_file_of_megabytes_goes_in_and_out_unchanged(engine):
    files = (await engine.create_session()).files
    content = os.urandom(5 * 2**20 + 7)
    await files.write("big", content)
    assert await files.read("big") == content


@pytest.mark.parametrize("strategy", ["per_session", "per_execution"])
async def test_a_file_that_is_not_there_is_named_once(local_engine, strategy):
    files = (await local_engine.create_session(strategy=strategy)).files
    for ask in (files.read, files.remove):
        with pytest.raises(RequestRefused, match=r"no-such\.csv") as caught:
            await ask("no-such.csv")
        assert str(caught.value).count("no-such.csv") == 1


async def test_what_is_no_content_is_refused_by_name(tmp_path):
    files = SessionFiles(lambda: pytest.fail("asked"), 10, used=lambda: None, touched=lambda: None)
    for content in (5, None, ["a"], "\ud800"):
        with pytest.raises(SettingsError, match=r"'x\.csv'"):
            await files.write("x.csv", content)


async def test_host_files_are_copied_in_and_out_where_the_caller_says(engine, tmp_path):
    session = await engine.create_session()
    (tmp_path / "in.csv").write_text("1,2\n")
    assert await session.files.copy_in(tmp_path / "in.csv") == "in.csv"
    assert await session.files.copy_in(str(tmp_path / "in.csv"), "d/other") == "d/other"
    assert (await session.execute("open('d/other').read()")).text == "'1,2\\n'"
    assert await session.files.copy_out("in.csv", tmp_path / "out.csv") == tmp_path / "out.csv"
    with pytest.raises(FileRefused, match="not overwritten"):
        await session.files.copy_out("in.csv", tmp_path / "out.csv")
    await session.files.write("in.csv", "new")
    await session.files.copy_out("in.csv", tmp_path / "out.csv", allow_overwrite=True)
    assert (tmp_path / "out.csv").read_text() == "new"
    with pytest.raises(FileRefused, match="no directory"):
        await session.files.copy_out("in.csv", tmp_path / "none" / "out.csv")
    with pytest.raises(FileRefused, match="would import it"):
        await session.files.copy_out("in.csv", tmp_path / "json.py")
    for missing in (tmp_path, tmp_path / "nothing", "/dev/null"):
        with pytest.raises(FileRefused, match="no file on this host"):
            await session.files.copy_in(missing)


async def test_a_host_file_over_the_workspaces_limit_is_not_even_read(tmp_path):
    files = SessionFiles(lambda: pytest.fail("asked"), 10, used=lambda: None, touched=lambda: None)
    (tmp_path / "big").write_bytes(b"x" * 11)
    with pytest.raises(FileTooLarge, match="10 bytes"):
        await files.copy_in(tmp_path / "big")


async def test_who_watches_sees_what_is_made_changed_and_removed(engine):
    session = await engine.create_session()
    await session.files.write("old", "1")
    seen, looked = [], asyncio.Event()
    store = session.files._store

    def look():
        looked.set()
        return store()

    session.files._store = look

    async def watch():
        async for change in session.files.watch(interval_s=0.02):
            seen.append((change.kind, change.entry.name))

    watching = asyncio.create_task(watch())
    await looked.wait()  # the first listing was asked for before whatever comes now
    session.files._store = store
    for code, expected in [
        ("open('new', 'w').close()", ("created", "new")),
        ("open('new', 'w').write('more')", ("changed", "new")),
        ("import os; os.remove('old')", ("removed", "old")),
    ]:
        await session.execute(code)
        async with asyncio.timeout(DEADLINE_S):
            while expected not in seen:  # noqa: ASYNC110 - what a watcher does
                await asyncio.sleep(0.01)
    assert seen == [("created", "new"), ("changed", "new"), ("removed", "old")]
    await session.close()
    with pytest.raises(SessionClosed):
        await asyncio.wait_for(watching, DEADLINE_S)


def test_changes_between_two_listings_come_oldest_first():
    before = {name: FileEntry(name, 1, 1.0) for name in ("kept", "gone", "changed")}
    now = {
        "kept": before["kept"],
        "changed": FileEntry("changed", 2, 3.0),
        "new": FileEntry("new", 1, 2.0),
    }
    assert [(one.kind, one.entry.name) for one in changes(before, now)] == [
        ("removed", "gone"), ("created", "new"), ("changed", "changed"),
    ]  # fmt: skip

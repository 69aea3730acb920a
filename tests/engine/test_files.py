"""Files of a guest on the host: inside the chosen directory, and nothing overwritten."""

import os
import stat
from pathlib import Path

import pytest

from sandbox_kernel.cli.run import printable
from sandbox_kernel.engine.files import write_new
from sandbox_kernel.errors import FileRefused


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

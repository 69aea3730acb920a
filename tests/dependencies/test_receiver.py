"""What a builder says that its files are, and what becomes of it on this host."""

import os
import stat

import pytest

from sandbox_kernel.dependencies.receiver import Bounds, LayerRefused, Receiver


def entry(path="lib/a.py", size=0, is_executable=False):
    return {"path": path, "size": size, "is_executable": is_executable}


def received(directory, *pieces, **bounds):
    with Receiver(directory, Bounds(**bounds)) as receiver:
        for entries, content in pieces:
            receiver.take(entries, content)
        return receiver.finish()


@pytest.fixture
def layer(tmp_path):
    return tmp_path / "layer"


def test_files_are_written_with_their_contents_and_two_modes(layer):
    old = os.umask(0o077)
    try:
        found = received(
            layer,
            ([entry("lib/a.py", 3), entry("bin/tool", 2, True)], b"abc"),
            ([entry("lib/empty")], b"xy"),
        )
    finally:
        os.umask(old)
    assert (layer / "lib/a.py").read_bytes() == b"abc"
    assert (layer / "bin/tool").read_bytes() == b"xy"
    assert (layer / "lib/empty").read_bytes() == b""
    modes = {name: stat.S_IMODE((layer / name).stat().st_mode) for name in ("lib/a.py", "bin/tool")}
    assert modes == {"lib/a.py": 0o644, "bin/tool": 0o755}
    assert stat.S_IMODE((layer / "lib").stat().st_mode) == 0o755
    assert (found.files, found.size_bytes) == (3, 5)


def test_the_digest_tells_contents_names_and_modes_apart_and_not_their_order(tmp_path):
    def digest(number, *pieces):
        return received(tmp_path / str(number), *pieces).digest

    first = digest(1, ([entry("a", 1), entry("b", 1)], b"xy"))
    assert first == digest(2, ([entry("b", 1), entry("a", 1)], b"yx"))
    assert first != digest(3, ([entry("a", 1), entry("b", 1)], b"yx"))
    assert first != digest(4, ([entry("a", 1, True), entry("b", 1)], b"xy"))
    assert first != digest(5, ([entry("a", 1), entry("c", 1)], b"xy"))


PATHS = [
    *("/etc/passwd", "../x", "a/../../x", "a/..", "./a", "a//b", "", "a/", "/"),
    *("a\0b", "a\nb", "\x1b]0;x\x07", "\udcff", "n" * 256, "é" * 128, "a/" * 64 + "b"),
    "/".join(["n" * 200] * 30),
]


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_a_name_that_is_none_leaves_nothing(layer, path):
    with pytest.raises(LayerRefused):
        received(layer, ([entry("good", 1), entry(path)], b"x"))
    assert not layer.exists()
    assert os.listdir(layer.parent) == []


@pytest.mark.parametrize("path", ["-rf", "a b", "ü/ñ", "n" * 255, "a/" * 63 + "b", "..a", "a\\b"])
def test_a_name_that_is_only_strange_is_taken(layer, path):
    received(layer, ([entry(path, 1)], b"x"))
    assert (layer / path).read_bytes() == b"x"


@pytest.mark.parametrize(
    "paths", [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a/b/c", "a/b"), ("a/b", "a/b/c/d")]
)
def test_a_name_that_comes_twice_is_refused(layer, paths):
    with pytest.raises(LayerRefused, match="twice"):
        received(layer, ([entry(path) for path in paths], b""))
    assert not layer.exists()


ENTRIES = [
    *(None, "a", {}, {"a": 1}, [None], ["a"], [{"path": "a"}], [{"path": "a", "size": 0}]),
    [{"path": 1, "size": 0, "is_executable": False}],
    [{"path": "a", "size": "0", "is_executable": False}],
    [{"path": "a", "size": True, "is_executable": False}],
    [{"path": "a", "size": -1, "is_executable": False}],
    [{"path": "a", "size": 1.5, "is_executable": False}],
    [{"path": "a", "size": 2**63, "is_executable": False}],
    [{"path": "a", "size": 0, "is_executable": 0o4755}],
]


@pytest.mark.parametrize("entries", ENTRIES, ids=range(len(ENTRIES)))
def test_an_entry_that_is_none_is_refused(layer, entries):
    with pytest.raises(LayerRefused):
        received(layer, (entries, b""))
    assert not layer.exists()


def test_bytes_that_belong_to_no_file_are_refused(layer):
    with pytest.raises(LayerRefused, match="belong to no file"):
        received(layer, ([entry(size=1)], b"xy"))


@pytest.mark.parametrize("content", [b"", b"x"])
def test_a_file_that_ends_too_early_is_refused(layer, content):
    with pytest.raises(LayerRefused, match="ended before"):
        received(layer, ([entry(size=2)], content))
    assert not layer.exists()


@pytest.mark.parametrize(
    ("bounds", "entries"),
    [
        ({"bytes": 10}, [entry("a", 6), entry("b", 6)]),
        ({"files": 2}, [entry("a"), entry("b"), entry("c")]),
        ({"files": 2}, [entry("a/b/c/d/e")]),
    ],
)
def test_a_layer_over_its_bounds_is_refused_before_it_is_written(layer, bounds, entries):
    with pytest.raises(LayerRefused, match="over"):
        received(layer, (entries, b""), **bounds)
    assert not layer.exists()


def test_a_link_that_lies_in_the_way_is_not_followed(tmp_path, layer):
    outside = tmp_path / "outside"
    outside.mkdir()
    with Receiver(layer) as receiver:
        (layer / "lib").symlink_to(outside)
        with pytest.raises(OSError):
            receiver.take([entry("lib/a", 1)], b"x")
    assert os.listdir(outside) == []


def test_an_existing_file_is_not_written_through(tmp_path, layer):
    victim = tmp_path / "victim"
    victim.write_text("own")
    with Receiver(layer) as receiver:
        os.link(victim, layer / "a")
        with pytest.raises(FileExistsError):
            receiver.take([entry("a", 1)], b"x")
    assert victim.read_text() == "own"


def test_an_empty_directory_is_filled_and_a_full_one_refused(layer):
    layer.mkdir()
    received(layer, ([entry("a", 1)], b"x"))
    with pytest.raises(LayerRefused, match="not empty"):
        received(layer, ([entry("b", 1)], b"x"))
    assert os.listdir(layer) == ["a"]


def test_an_empty_directory_is_empty_again_after_a_failure(layer):
    layer.mkdir()
    with pytest.raises(LayerRefused):
        received(layer, ([entry("a", 1), entry("../b")], b"x"))
    assert os.listdir(layer) == []

"""Host paths that nobody can bend: every refusal here has a twin that succeeds."""

from __future__ import annotations

import os
import stat
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_kernel import exchange
from sandbox_kernel.errors import FileRefused, FileTooLarge
from sandbox_kernel.exchange import Exchange, plan


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("secret")
    return tmp_path / "root"


@pytest.fixture
def files(root):
    exchanged = Exchange(str(root))
    yield exchanged
    exchanged.close()


# -- names


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("a.csv", ["a.csv"]),
        ("./a.csv", ["a.csv"]),
        ("sub//a b.csv", ["sub", "a b.csv"]),
        ("/root/dir/ü.csv", ["ü.csv"]),
        ("/root/dir/sub/a", ["sub", "a"]),
    ],
)
def test_a_path_beneath_the_root_is_taken_apart(path, parts):
    assert plan(path, "/root/dir") == parts


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "/",
        "a/",
        "..",
        "../a",
        "sub/../../a",
        "sub/..",
        "/etc/passwd",
        "/root/dirty/a",
        "/root/dir",
        "/root/dir/../x",
        ".bashrc",
        ".git/hooks/x",
        "sub/.hidden",
        "-rf",
        "~/a",
        "a\nb",
        "a\x1b[31m",
        "a\0b",
        "a\u202egpj.exe",
        "a\ud800",
        "x" * 256,
        "ü" * 128,
        "/".join("d" * 40),
    ],
)
def test_a_path_that_leads_elsewhere_or_hides_something_is_refused(path):
    with pytest.raises(FileRefused) as told:
        plan(path, "/root/dir")
    assert str(told.value).isprintable()
    assert str(told.value).endswith(".")


@given(st.text(max_size=60))
def test_whatever_the_text_the_parts_stay_beneath_the_root(path):
    try:
        parts = plan(path, "/root/dir")
    except FileRefused:
        return
    joined = os.path.normpath(os.path.join("/root/dir", *parts))
    assert joined.startswith("/root/dir/")
    assert not any(part.startswith(".") for part in parts)


@pytest.mark.parametrize(
    "name",
    [
        "evil.pth",
        "SITECUSTOMIZE.py",
        "usercustomize.pyc",
        "conftest.py",
        "jupyter_server_config.py",
        "jupyter_notebook_config.json",
        "ipython_kernel_config.py",
        "__init__.py",
        "kernel.json",
        "a.desktop",
        "random.py",
        "json.py",
        "pytest.py",
        "random.cpython-311-x86_64-linux-gnu.so",
        "zmq.so",
    ],
)
def test_what_the_host_would_run_or_import_by_itself_is_not_written(files, name):
    assert files.write("analysis_of_mine.py", b"x = 1") == "analysis_of_mine.py"
    with pytest.raises(FileRefused, match=r"run|import|start|follow|read"):
        files.write(name, b"evil()")
    assert not os.path.exists(os.path.join(files.root, name))


# -- writing


def test_a_file_is_written_whole_readable_and_not_executable(files, root):
    assert files.write("sub/a.csv", b"1,2\n") == "sub/a.csv"
    found = root / "sub" / "a.csv"
    assert found.read_bytes() == b"1,2\n"
    assert stat.S_IMODE(found.stat().st_mode) & ~0o644 == 0
    assert os.listdir(root / "sub") == ["a.csv"]


def test_an_absolute_path_within_the_root_is_written(files, root):
    assert files.write(f"{root}/a.csv", b"x") == "a.csv"


def test_nothing_is_overwritten_unasked(files, root):
    files.write("a.csv", b"old")
    with pytest.raises(FileRefused, match="not overwritten"):
        files.write("a.csv", b"new")
    with pytest.raises(FileRefused, match="not overwritten"):
        files.check("a.csv")
    assert (root / "a.csv").read_bytes() == b"old"
    files.write("a.csv", b"new", allow_overwrite=True)
    assert (root / "a.csv").read_bytes() == b"new"
    assert os.listdir(root) == ["a.csv", "sub"] or os.listdir(root) == ["sub", "a.csv"]


def test_a_file_that_appears_after_the_check_is_not_overwritten(files, root, monkeypatch):
    monkeypatch.setattr(exchange, "_check_target", lambda *_: (root / "a").write_bytes(b"theirs"))
    with pytest.raises(FileRefused, match="exists"):
        files.write("a", b"ours")
    assert (root / "a").read_bytes() == b"theirs"
    assert sorted(os.listdir(root)) == ["a", "sub"]


def test_overwriting_a_hard_link_leaves_the_other_name_alone(files, root):
    os.link(root.parent / "outside" / "secret.txt", root / "a.txt")
    files.write("a.txt", b"new", allow_overwrite=True)
    assert (root.parent / "outside" / "secret.txt").read_text() == "secret"
    assert (root / "a.txt").read_bytes() == b"new"


def test_a_file_system_without_hard_links_works_too(files, root, monkeypatch):
    def refuse(*_args, **_options):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    files.write("a", b"x")
    assert (root / "a").read_bytes() == b"x"
    with pytest.raises(FileRefused, match="exists"):
        files.write("a", b"y")


@pytest.mark.parametrize("allow_overwrite", [False, True])
def test_a_link_as_target_is_never_followed(files, root, allow_overwrite):
    for name, target in (("rel", "../outside/secret.txt"), ("abs", "/etc/passwd"), ("no", "none")):
        os.symlink(target, root / name)
        with pytest.raises(FileRefused, match="no regular file"):
            files.write(name, b"evil", allow_overwrite=allow_overwrite)
    assert (root.parent / "outside" / "secret.txt").read_text() == "secret"


def test_a_link_among_the_directories_is_never_followed(files, root):
    os.symlink("../outside", root / "chained")
    os.symlink("chained", root / "link")
    os.symlink("/proc/self/root/tmp", root / "proc")
    os.symlink("sub", root / "inner")
    for path in ("link/a", "chained/a", "proc/a", "inner/a"):
        with pytest.raises(FileRefused, match="symbolic link"):
            files.write(path, b"x")
    assert os.listdir(root.parent / "outside") == ["secret.txt"]
    assert files.write("sub/a", b"x") == "sub/a"


def test_directories_are_not_made_and_not_replaced(files, root):
    with pytest.raises(FileRefused, match="does not exist"):
        files.write("new/a", b"x")
    with pytest.raises(FileRefused, match="no regular file"):
        files.write("sub", b"x", allow_overwrite=True)
    with pytest.raises(FileRefused):
        files.write("sub/", b"x")


def test_a_root_that_is_renamed_and_replaced_is_still_the_one_that_was_opened(files, root):
    root.rename(root.parent / "moved")
    os.symlink(root.parent / "outside", root)
    files.write("a", b"x")
    assert (root.parent / "moved" / "a").read_bytes() == b"x"
    assert os.listdir(root.parent / "outside") == ["secret.txt"]


def test_a_directory_swapped_for_a_link_meanwhile_leads_nowhere(files, root):
    """A thread swaps `sub` and a link to the outside all the time; no write follows it."""
    stop = threading.Event()
    os.symlink("../outside", root / "link")

    def swap() -> None:
        while not stop.is_set():
            for old, new in (("sub", "x"), ("link", "sub"), ("sub", "link"), ("x", "sub")):
                os.rename(root / old, root / new)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for number in range(300):
            try:
                files.write(f"sub/f{number}", b"x")
            except FileRefused:
                continue
    finally:
        stop.set()
        swapping.join()
    assert os.listdir(root.parent / "outside") == ["secret.txt"]


# -- reading


def test_a_regular_file_is_read(files, root):
    (root / "sub" / "a.bin").write_bytes(b"\0\xff")
    assert files.read("sub/a.bin") == b"\0\xff"


def test_links_and_hidden_files_are_not_read(files, root):
    os.symlink("../outside/secret.txt", root / "link")
    os.symlink("../outside", root / "dir")
    (root / ".env").write_text("secret")
    for path in ("link", "dir/secret.txt", ".env", "../outside/secret.txt", "none"):
        with pytest.raises(FileRefused):
            files.read(path)


@pytest.mark.timeout(20)
def test_what_is_no_regular_file_is_refused_at_once(files, root):
    import socket

    os.mkfifo(root / "a.png")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(root / "socket"))
    for name in ("a.png", "sub", "socket"):
        with pytest.raises(FileRefused):
            files.read(name)
    listening.close()


def test_a_file_over_the_limit_is_refused_even_when_it_is_sparse_or_grows(files, root, monkeypatch):
    with open(root / "sparse", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(FileTooLarge, match="100 bytes"):
        files.read("sparse", limit_bytes=100)
    (root / "a").write_bytes(b"x" * 100)
    assert len(files.read("a", limit_bytes=100)) == 100
    real = os.fstat(os.open(root / "a", os.O_RDONLY))
    (root / "a").write_bytes(b"x" * 1000)
    monkeypatch.setattr(os, "fstat", lambda _handle: real)
    with pytest.raises(FileTooLarge):
        files.read("a", limit_bytes=100)


def test_no_descriptor_is_left_open(files):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        files.write(f"f{os.urandom(4).hex()}", b"x")
        for path in ("sub/x/y", "../x", "none/none"):
            with pytest.raises(FileRefused):
                files.read(path)
    assert len(os.listdir("/proc/self/fd")) == before

"""Who finds a session, and who is let in: the same user, and nobody else."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys

import pytest

from sandbox_kernel.sharing import places
from sandbox_kernel.sharing.listing import collect_garbage
from tests.sharing.conftest import shared

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

# Connects as the user that it is told, and prints what it was greeted with.
VISITOR = """
import os, socket, sys
user, directory, name = int(sys.argv[1]), sys.argv[2], sys.argv[3]
if user:
    os.setgroups([]); os.setgid(user); os.setuid(user)
try:
    os.chdir(directory)
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(10)
    peer.connect(name)
    print(len(peer.recv(100000)))
except OSError as error:
    print(type(error).__name__)
"""


def visit(user: int, directory, name: str) -> str:
    command = [sys.executable, "-I", "-c", VISITOR, str(user), str(directory), name]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()


def directory_of(runtime):
    return runtime / places.DIRECTORY


# -- the directory


def test_the_directory_is_its_users_alone_and_so_is_the_socket(notebook, runtime):
    found = shared(notebook)
    directory = directory_of(runtime)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / f"{found.id}.sock").stat().st_mode) == 0o600
    assert places.is_id(found.id)
    assert len(places.bases({"HOME": "/h"})) == 2


def test_a_directory_that_others_may_enter_is_not_used(tmp_path):
    tmp_path.chmod(0o700)
    environ = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path / "home")}
    place = places.make(environ)
    assert place.path == str(tmp_path / places.DIRECTORY)
    place.close()
    for mode in (0o755, 0o711, 0o770):
        (tmp_path / places.DIRECTORY).chmod(mode)
        elsewhere = places.make(environ)
        assert elsewhere.path.startswith(str(tmp_path / "home"))
        elsewhere.close()
        with places.existing(environ) as found:
            assert str(tmp_path / places.DIRECTORY) not in [place.path for place in found]


def test_a_link_or_a_place_that_others_write_to_is_not_used(tmp_path):
    tmp_path.chmod(0o700)
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / places.DIRECTORY).symlink_to("real")
    environ = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path / "home")}
    place = places.make(environ)
    assert place.path.startswith(str(tmp_path / "home"))
    place.close()
    (tmp_path / places.DIRECTORY).unlink()
    tmp_path.chmod(0o777)
    place = places.make(environ)
    assert place.path.startswith(str(tmp_path / "home"))
    place.close()


@needs_root
def test_somebody_elses_directory_is_not_used(tmp_path):
    tmp_path.chmod(0o700)
    environ = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path / "home")}
    directory = tmp_path / places.DIRECTORY
    directory.mkdir(mode=0o700)
    os.chown(directory, 65534, 65534)
    place = places.make(environ)
    assert place.path.startswith(str(tmp_path / "home"))
    place.close()


def test_a_kernel_without_a_private_directory_works_unshared(start_kernel, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    names = ("XDG_RUNTIME_DIR", "JUPYTER_RUNTIME_DIR", "XDG_DATA_HOME")
    variables = {name: str(blocked) for name in names} | {"HOME": str(blocked / "x")}
    kernel = start_kernel(env=variables)
    status = kernel.run("%sandbox status").displays[0]["text/plain"]
    if not os.path.isdir(f"/run/user/{os.geteuid()}"):
        assert "not shared: there is no private directory" in status
    assert kernel.run("6 * 7").result["text/plain"] == "42"


# -- the peer


@needs_root
def test_another_user_is_not_let_in(notebook, runtime):
    """Not even where the modes would let them: what Linux says of the peer decides."""
    name = f"{shared(notebook).id}.sock"
    directory = directory_of(runtime)
    assert visit(65534, directory, name) == "PermissionError"
    opened = [directory, *(p for p in directory.parents if p.stat().st_mode & 0o077 == 0)]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in opened}
    try:
        for path in opened:
            path.chmod(0o711)
        (directory / name).chmod(0o666)
        assert visit(65534, directory, name) == "0"
        assert int(visit(0, directory, name)) > 100
    finally:
        (directory / name).chmod(0o600)
        for path, mode in modes.items():
            path.chmod(mode)
    assert shared(notebook)


def test_a_peer_in_another_user_namespace_is_a_stranger(tmp_path):
    """As a guest is, that found a way to the socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert places.stranger(ours) == ""
    listener = socket.socket(socket.AF_UNIX)
    with listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        command = [sys.executable, "-c", VISITOR, "0", str(tmp_path), "s"]
        unshared = subprocess.Popen(["unshare", "--user", *command], stdout=subprocess.DEVNULL)
        try:
            listener.settimeout(20)
            peer, _ = listener.accept()
        except TimeoutError:
            pytest.skip("this machine makes no user namespaces")
        finally:
            listener.close()
        with peer:
            why = places.stranger(peer)
        unshared.wait(30)
        assert why == "it lives in another user namespace, as sandboxes do"


def test_a_guest_sees_neither_the_directory_nor_the_socket(notebook, runtime):
    path = directory_of(runtime) / f"{shared(notebook).id}.sock"
    probe = (
        "import os, socket\n"
        f"path = {str(path)!r}\n"
        "print([p for p in (path, os.path.dirname(path)) if os.path.exists(p)])\n"
        "os.chdir('/')\n"
        "try:\n    socket.socket(socket.AF_UNIX).connect(path[-100:])\n"
        "except OSError as error:\n    print('refused')\n"
        f"print({shared(notebook).id!r} in str(dict(os.environ)))\n"
    )
    assert notebook.run(probe).stdout == "[]\nrefused\nFalse\n"
    assert int(visit(0, path.parent, path.name)) > 100  # the host does


# -- what dead kernels leave


def test_sockets_of_the_dead_are_removed_and_those_of_the_living_stay(notebook, runtime):
    living = shared(notebook).id
    place = places.opened(str(directory_of(runtime)))
    dead = places.new_id()
    places.listening(place, dead).close()
    assert set(place.ids()) == {living, dead}
    lines = collect_garbage()
    assert len(lines) == 1
    assert dead in lines[0]
    assert place.ids() == [living]
    assert collect_garbage() == []
    place.close()


def test_ids_are_never_paths(tmp_path):
    for wrong in ("", "../x", "a" * 31, "A" * 32, "a" * 33, "a" * 32 + "\n", "é" * 32):
        assert not places.is_id(wrong)
    assert places.is_id(places.new_id())
    assert places.new_id() != places.new_id()


# -- the command


def test_list_shows_live_sessions(notebook, runtime):
    command = [sys.executable, "-P", "-m", "sandbox_kernel.cli"]
    shown = subprocess.run([*command, "list", "--sessions"], capture_output=True, text=True)
    assert shared(notebook).id in shown.stdout
    assert "/home/ann/analysis.ipynb" in shown.stdout
    assert f"kernel process {notebook.pid}" in shown.stdout
    alone = subprocess.run(
        [*command, "list", "--sessions"],
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime / "none"), "HOME": str(runtime)},
    )
    assert "No notebook" in alone.stdout


# -- the price


def test_a_kernels_start_imports_nothing_of_this():
    probe = (
        "import sys, json, sandbox_kernel.kernel.__main__, sandbox_kernel.kernel.server,"
        "sandbox_kernel.kernel.dependencies, sandbox_kernel.session;"
        "print(json.dumps([n for n in sys.modules"
        " if 'sharing' in n or n.endswith('kernel.drivers')]))"
    )
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert json.loads(found.stdout) == []

"""Packages on this machine against its other users, and builders that lie or are cancelled:
THREATS 50-52. What the guest may say in a build is `test_dependencies`'s."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from sandbox_kernel import events
from sandbox_kernel.backends.bubblewrap import layers
from sandbox_kernel.dependencies import admission, builder
from sandbox_kernel.dependencies.indexes import Index, Upstream
from sandbox_kernel.dependencies.receiver import Bounds, LayerRefused, Receiver
from sandbox_kernel.dependencies.relay import Relay, Request
from sandbox_kernel.dependencies.store import Store
from sandbox_kernel.dependencies.transfer import Transfer
from sandbox_kernel.errors import DependencyFailed
from tests.support.package_index import sdist
from tests.support.waiting import until

STRANGER = 54321


@pytest.fixture
def cache(tmp_path, monkeypatch):
    found = tmp_path / "cache"
    found.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(found))
    return found


def open_store():
    return Store("bubblewrap", layers.BubblewrapLayers())


def use():
    """All that is done with a store."""
    opened = open_store()
    with opened.building():
        pass
    assert opened.find("0" * 64) is None
    opened.collect()


def refused():
    """The reason why a store is not used at all."""
    reasons = set()
    opened = open_store()
    for work in (lambda: opened.building().__enter__(), lambda: opened.find("0" * 64)):
        with pytest.raises(DependencyFailed, match="another user of this machine can change") as e:
            work()
        reasons.add(str(e.value))
    assert layers.directory() == ""
    [reason] = reasons
    assert "XDG_CACHE_HOME" in reason
    return reason


# --- other users of this machine --------------------------------------------------------


def test_a_cache_of_ones_own_is_used(cache):
    """The twin of what follows."""
    use()
    assert layers.directory() == str(cache / "sandbox-kernel/dependencies/layers")


def test_a_cache_that_all_may_write_is_used_only_where_nobody_can_rename(cache):
    cache.chmod(0o1777)
    use()
    cache.chmod(0o777)
    assert str(cache) in refused()


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@needs_root
@pytest.mark.parametrize(
    "part", ["", "sandbox-kernel", "sandbox-kernel/dependencies", *(
        f"sandbox-kernel/dependencies/{name}" for name in ("records", "building", "layers"))],
)  # fmt: skip
def test_what_belongs_to_somebody_else_is_not_used(cache, part):
    use()
    layers.directory()
    path = cache / part
    os.chown(path, STRANGER, STRANGER)
    assert str(path) in refused()
    os.chown(path, os.geteuid(), os.getegid())
    use()


@needs_root
@pytest.mark.parametrize("part", ["sandbox-kernel", "sandbox-kernel/dependencies/layers"])
def test_a_link_that_somebody_else_put_there_is_not_followed(cache, tmp_path, part):
    theirs, place = tmp_path / "theirs", cache / part
    theirs.mkdir()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(theirs)
    os.chown(place, STRANGER, STRANGER, follow_symlinks=False)
    assert str(place) in refused()
    assert [path for path in theirs.rglob("*") if path.is_file()] == []


def test_a_link_of_ones_own_to_another_disk_is_followed(cache, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o700)
    (cache / "sandbox-kernel").symlink_to(disk)
    use()
    assert (disk / "dependencies/records").is_dir()


def test_with_any_umask_nobody_else_can_write(cache):
    old = os.umask(0)
    try:
        use()
        layers.directory()
    finally:
        os.umask(old)
    for path in (cache / "sandbox-kernel", *(cache / "sandbox-kernel").rglob("*")):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o022, path


# --- a relay whose index or builder lies ---------------------------------------------------


class Answer:
    def __init__(self):
        self.status, self.content = 0, b""

    def begin(self, status, headers):
        self.status = status

    def write(self, content):
        self.content += content
        return True


def relay_to(address):
    upstream = Upstream(f"http://{address}/")
    return Relay(Index("pip", (upstream,), {}, {}, upstream.base, "", True), 1)


@contextlib.contextmanager
def answering(head, body):
    """A server that says `head`, then `body` until nobody listens; (address, bytes sent)."""
    sent = [0]

    def serve(server):
        with contextlib.suppress(OSError), server.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(head)
            while sent[0] < 400_000_000:
                sent[0] += connection.send(body)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", sent
        server.close()
        thread.join(20)


@pytest.mark.parametrize(
    "location", ["http://127.0.0.1:1/x", "http://[bad/", "http://a\\@b/", "", "file:///etc/passwd"]
)
def test_a_redirect_is_not_read_to_its_end(location):
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n".encode()
    if not location:  # the twin: that is an answer like any other, and goes on to who asked
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
    with answering(head, bytes(65536)) as (address, sent):
        answer = Answer()
        relay_to(address).answer(Request("GET", f"/h/{address}/x", {}), answer)
        if location:
            assert answer.status in (403, 502)
            assert sent[0] < 20_000_000
        else:
            assert (answer.status, answer.content) == (200, bytes(10))


@pytest.mark.parametrize(
    "authority", ["\x1b]52;c;eA==\x07", "%1b]0;x%07", "a%0d%0ab", "\u202egro.ipyp", "a b"]
)
def test_a_host_with_tricks_of_terminals_is_not_repeated(authority):
    relay = relay_to("127.0.0.1:1")
    answer = Answer()
    relay.answer(Request("GET", f"/h/{authority}/x", {}), answer)
    assert answer.status == 400
    assert all(problem.isprintable() and problem.isascii() for problem in relay.problems)


def test_a_plain_host_that_is_not_the_indexs_is_repeated():
    relay = relay_to("127.0.0.1:1")
    relay.answer(Request("GET", "/h/elsewhere.example/x", {}), Answer())
    assert "elsewhere.example" in relay.problems[0]
    with pytest.raises(admission.Refused, match="not a part"):
        admission.resolve(relay._index, "/h/user:password@127.0.0.1:1/x")


@pytest.mark.parametrize(
    ("fields", "is_lie"),
    [
        ({}, False),
        ({"path": "/" + "x" * 1_000_000}, True),
        ({"method": "G" * 1_000_000}, True),
        ({"headers": {"Range": "x" * 1_000_000}}, True),
        ({"headers": {"x" * 1_000_000: "x"}}, True),
    ],
)
async def test_requests_too_long_to_be_held_are_lies(fields, is_lie):
    lies = []

    async def ask(kind, meta=None, data=b""):
        return events.Replied(0, {"status": "ok"})

    transfer = Transfer(ask, relay_to("127.0.0.1:1"), lies.append)
    data = {"method": "POST", "path": "/", "headers": {}, **fields}
    transfer.hear(events.CommSent(1, "msg", "1", "fetch", data, {}, []))
    assert bool(lies) == is_lie
    async with asyncio.timeout(60):
        await asyncio.gather(*transfer._tasks.values())


def test_names_that_are_too_many_to_be_held_are_refused(tmp_path):
    def take(length):
        with Receiver(tmp_path / "layer", Bounds(all_paths_bytes=10_000)) as receiver:
            entries = [
                {"path": f"{n:0{length}}", "size": 0, "is_executable": False} for n in range(100)
            ]
            receiver.take(entries, b"")
            receiver.finish()

    with pytest.raises(LayerRefused, match="names of the installed files are over"):
        take(101)
    assert not (tmp_path / "layer").exists()
    take(100)


# --- cancelled at every stage ---------------------------------------------------------------

STAGES = {
    "starting": (builder._Builder, "_start"),
    "sending": (builder._Builder, "_send_inputs"),
    "installing": (builder._Builder, "_install"),
    "taking over": (Transfer, "receive"),
    "closing": (builder._Builder, "close"),
}


def children():
    """Processes below this one, by pid."""
    found = set()
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found.update(path.read_text().split())
    return found


@pytest.mark.parametrize("stage", STAGES)
async def test_a_build_cancelled_at_any_stage_leaves_nothing(building, monkeypatch, stage):
    sdist(building.packages, "pure", "pass")
    before = children()
    reached = asyncio.Event()
    owner, name = STAGES[stage]
    original = getattr(owner, name)

    async def noted(*args, **named):
        reached.set()
        return await original(*args, **named)

    monkeypatch.setattr(owner, name, noted)
    work = asyncio.create_task(building("pure"))
    async with asyncio.timeout(90):
        await reached.wait()
        await asyncio.sleep(0)  # into it
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
    if stage != "closing":
        assert not building.layer.exists()
    await asyncio.to_thread(until, lambda: children() <= before, "the builder's end")


async def test_an_installer_that_stalls_for_ever_is_ended(building, monkeypatch, backend):
    if backend == "docker":
        pytest.skip("docker: the deadline is the host's, and the same")

    async def stalled(self, receiver):
        await asyncio.Event().wait()

    sdist(building.packages, "pure", "pass")
    monkeypatch.setattr(Transfer, "receive", stalled)
    with pytest.raises(DependencyFailed, match="took longer than"):
        await building("pure", timeout_s=6)
    assert not building.layer.exists()

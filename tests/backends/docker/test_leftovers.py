"""After many sessions, and after owners that were killed, nothing of ours is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from typing import NamedTuple

import pytest

from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.backends.docker import DockerBackend
from sandbox_kernel.limits import Limits
from sandbox_kernel.session import SandboxSession
from tests.support.docker_engine import containers_of
from tests.support.engines import image
from tests.support.waiting import DEADLINE_S, until

LIMITS = Limits(memory_bytes=128 * 2**20)
IN_A_ROW = 200

# A process that owns a container in the middle of a cell, until it is killed.
OWNER = """
import asyncio, sys
from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.backends.docker import DockerBackend
from sandbox_kernel.session import SandboxSession

async def main():
    session = SandboxSession(DockerBackend(), SandboxSpec(image=sys.argv[1]))
    await session.start()
    def hear(event):
        print(session._guest.sandbox.container_id, flush=True)
    await session.execute(
        "import os, signal, time\\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\\n"
        "if os.fork(): print('up', flush=True)\\n"
        "os.setsid() if os.getpid() != os.getpgid(0) else None\\n"
        "time.sleep(600)", on_event=hear)

asyncio.run(main())
"""

# A process that dies between creating a container and starting it.
CREATOR = """
import os, sys
from sandbox_kernel.backends.docker import owners
from sandbox_kernel.backends.docker.engine import Engine
made = Engine().api().create_container_from_config({
    "Image": sys.argv[1], "Cmd": ["sleep", "600"], "Labels": owners.labels("ab" * 16),
    "HostConfig": {"NetworkMode": "none", "AutoRemove": True}})
print(made["Id"], flush=True)
if len(sys.argv) > 2:
    sys.stdin.read()
"""


class Census(NamedTuple):
    """What this process and its engine hold."""

    containers: int
    volumes: int
    networks: int
    threads: int
    descriptors: int


def census(api):
    # The event loop's own pool of threads stays, and is bounded.
    threads = [t for t in threading.enumerate() if not t.name.startswith("asyncio_")]
    return Census(
        len(containers_of(os.getpid())),
        len(api.volumes()["Volumes"] or []),
        len(api.networks()),
        len(threads),
        len(os.listdir("/proc/self/fd")),
    )


@pytest.fixture
def name(engine):
    return image(engine.api())


async def live_and_die(backend, name):
    session = SandboxSession(backend, SandboxSpec(image=name, limits=LIMITS))
    await session.start()
    await session.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_two_hundred_sessions_in_a_row_leave_nothing(engine, name):
    backend = DockerBackend(engine)
    # What is made once: the client's connections, the loop's threads.
    for _ in range(5):
        await live_and_die(backend, name)
    before = census(engine.api())
    for _ in range(IN_A_ROW):
        await live_and_die(backend, name)
    await asyncio.to_thread(until, lambda: not containers_of(os.getpid()), "their end")
    after = census(engine.api())
    assert after.containers == before.containers == 0
    assert after.volumes == before.volumes
    assert after.networks == before.networks
    assert after.threads <= before.threads
    # Connections that the client keeps for the next call; a leak would be two hundred.
    assert after.descriptors <= before.descriptors + 6


async def test_ten_sessions_at_once_are_ten_containers_with_users_of_their_own(engine, name):
    backend = DockerBackend(engine)
    sessions = [SandboxSession(backend, SandboxSpec(image=name, limits=LIMITS)) for _ in range(10)]
    heard: dict[int, str] = {}

    def hear(number):
        def note(event):
            heard[number] = heard.get(number, "") + getattr(event, "text", "")

        return note

    try:
        await asyncio.gather(*(session.start() for session in sessions))
        assert len(containers_of(os.getpid())) == 10
        code = "import os; print(NUMBER, len([p for p in os.listdir('/proc') if p.isdigit()]))"
        await asyncio.gather(
            *(
                session.execute(code.replace("NUMBER", str(number)), on_event=hear(number))
                for number, session in enumerate(sessions)
            )
        )
    finally:
        await asyncio.gather(*(session.close() for session in sessions))
    assert {text.split()[0] for text in heard.values()} == {str(n) for n in range(10)}
    assert all(int(text.split()[1]) < 10 for text in heard.values())
    assert containers_of(os.getpid()) == []


async def test_session_closed_while_it_starts_leaves_nothing(engine, name):
    backend = DockerBackend(engine)
    for delay_s in (0, 0.01, 0.05, 0.1, 0.2):
        session = SandboxSession(backend, SandboxSpec(image=name, limits=LIMITS))
        starting = asyncio.create_task(session.start())
        await asyncio.wait([starting], timeout=delay_s)
        await asyncio.wait_for(session.close(), DEADLINE_S)
        await asyncio.wait([starting], timeout=DEADLINE_S)
        assert starting.done()
        starting.exception()
        await asyncio.to_thread(until, lambda: not containers_of(os.getpid()), "its end")


def start_owner(name):
    return subprocess.Popen(
        [sys.executable, "-c", OWNER, name], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_containers_of_killed_owners_end_without_gc(engine, name):
    """Twenty times: five at once, whose cells ignore SIGINT and have a child of their own."""
    for _ in range(4):
        owners = [start_owner(name) for _ in range(5)]
        try:
            for owner in owners:
                assert owner.stdout is not None
                identity = owner.stdout.readline().decode().strip()
                assert containers_of(owner.pid) == [f"{identity[:12]} running"]
        finally:
            for owner in owners:
                owner.send_signal(signal.SIGKILL)
            for owner in owners:
                owner.communicate(timeout=DEADLINE_S)
        for owner in owners:
            until(lambda pid=owner.pid: not containers_of(pid), "its end")


def create(name, *more, **options):
    return subprocess.Popen(
        [sys.executable, "-c", CREATOR, name, *more],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
    )


def test_container_that_a_dead_owner_never_started_is_collected(engine, name):
    """And the twin of one that lives is left alone."""
    with create(name) as dead, create(name, "stay") as alive:
        assert dead.stdout is not None
        assert alive.stdout is not None
        identity, kept = (p.stdout.readline().decode().strip() for p in (dead, alive))
        dead.communicate(timeout=DEADLINE_S)
        try:
            lines = DockerBackend(engine).collect_garbage()
            assert any(identity[:12] in line for line in lines)
            assert not any(kept[:12] in line for line in lines)
            assert containers_of(dead.pid) == []
            assert containers_of(alive.pid) == [f"{kept[:12]} created"]
        finally:
            engine.remove(kept)
            alive.communicate(timeout=DEADLINE_S)


async def test_a_start_removes_what_dead_owners_left(engine, name):
    with create(name) as dead:
        dead.communicate(timeout=DEADLINE_S)
    backend = DockerBackend(engine)
    session = SandboxSession(backend, SandboxSpec(image=name, limits=LIMITS))
    try:
        await session.start()
        await asyncio.to_thread(until, lambda: not containers_of(dead.pid), "its removal")
    finally:
        await session.close()

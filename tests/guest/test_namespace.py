"""The supervisor as the first process of a PID namespace, as in a sandbox."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

import pytest

from sandbox_kernel.guest.framing import Kind
from tests.guest.support import Guest, poll

StartGuest = Callable[..., Guest]

AS_INIT = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]
AS_USER_INIT = ["unshare", "--user", "--map-current-user", *AS_INIT[1:]]


def _works(prefix: list[str]) -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*prefix, "true"], capture_output=True).returncode == 0


@pytest.fixture
def init_guest(start_guest: StartGuest) -> Guest:
    prefix = next((prefix for prefix in (AS_INIT, AS_USER_INIT) if _works(prefix)), None)
    if prefix is None:
        pytest.skip("This machine lets nobody make a PID namespace.")
    return start_guest(prefix=prefix)


def test_it_is_the_first_process_and_the_guest_cannot_end_it(init_guest: Guest) -> None:
    code = "for n in range(1, 65):\n    if n not in (32, 33): os.kill(1, n)\n"
    code += "send(DISPLAY, cell, {'parent': os.getppid()})"
    for _ in range(3):
        assert init_guest.run(code).frames[0].read_meta() == {"parent": 1}
    assert init_guest.request(Kind.STATUS).read_meta()["runner"]["generation"] == 1


def test_orphans_are_reaped(init_guest: Guest) -> None:
    code = "for _ in range(50):\n    if os.fork() == 0:\n        if os.fork() == 0: os._exit(0)\n"
    code += "        os._exit(0)\nfor _ in range(50): os.wait()"
    init_guest.run(code)

    def count() -> int:
        return int(init_guest.request(Kind.STATUS).read_meta()["processes"])

    poll(lambda: count() == 1)


DAEMONS = """
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)
            open('up%d' % os.getpid(), 'w').close()
            time.sleep(600)
        os._exit(0)
for _ in range(3): os.wait()
while len(os.listdir('.')) < 3: time.sleep(0.01)
"""


def test_a_restart_kills_daemons_of_every_session(init_guest: Guest) -> None:
    init_guest.run(DAEMONS)
    assert init_guest.request(Kind.STATUS).read_meta()["processes"] == 4
    assert init_guest.request(Kind.RESTART_RUNNER).read_meta() == {"generation": 2}
    # It waits for their ends, but not for ever.
    poll(lambda: init_guest.request(Kind.STATUS).read_meta()["processes"] == 1)
    assert init_guest.run("pass").outcome == "ok"


def test_everything_dies_with_the_stream(init_guest: Guest) -> None:
    init_guest.run(DAEMONS)
    init = _find_init(init_guest.process.pid)
    namespace = os.readlink(f"/proc/{init}/ns/pid")
    assert len(_members(namespace)) == 5
    init_guest.close_stream()
    init_guest.wait_exit()
    poll(lambda: not _members(namespace))


def test_a_fork_bomb_ends_with_a_restart(init_guest: Guest) -> None:
    code = "send(STDOUT, cell, data=b'on')\nwhile len(os.listdir('/proc')) < 400:\n"
    code += "    try: os.fork()\n    except OSError: pass\ntime.sleep(600)"
    cell = init_guest.start(code)
    init_guest.wait_kind(Kind.STDOUT)
    assert init_guest.request(Kind.RESTART_RUNNER).kind == Kind.ANSWER
    assert init_guest.finish(cell).outcome == "lost"
    assert init_guest.run("pass").outcome == "ok"
    poll(lambda: init_guest.request(Kind.STATUS).read_meta()["processes"] == 1)


def test_late_output_of_daemons_ends_with_a_restart(init_guest: Guest) -> None:
    code = "if os.fork() == 0:\n    os.setsid()\n    requests.close()\n    while True:\n"
    code += "        os.write(1, b'old')\n        time.sleep(0.01)\n"
    init_guest.run(code)
    init_guest.wait_kind(Kind.STDOUT)
    init_guest.request(Kind.RESTART_RUNNER)
    seen = len(init_guest.frames)
    init_guest.run("time.sleep(0.1)")
    assert all(frame.kind != Kind.STDOUT for frame in init_guest.frames[seen:])


PROBE = """
def attempt(path):
    try:
        os.close(os.open(path, os.O_RDWR))
        return 'open'
    except OSError as error:
        return type(error).__name__
send(DISPLAY, cell, {'supervisor': attempt('/proc/1/mem'), 'self': attempt('/proc/self/mem'),
    'fds': attempt('/proc/1/fd/3'), 'oom': open('/proc/self/oom_score_adj').read().strip()})
"""


def test_the_guest_cannot_open_the_supervisors_memory_or_stream(start_guest: StartGuest) -> None:
    """Both have the same user and no capability: only non-dumpability stands between them."""
    powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    prefix = AS_USER_INIT if os.getuid() else [*AS_INIT, *powerless]
    if not _works(prefix):
        pytest.skip("This machine lets nobody make a PID namespace without capabilities.")
    guest = start_guest(prefix=prefix)
    guest.request(Kind.RESTART_RUNNER)  # a runner whose parent was hidden when it was forked
    found = guest.run(PROBE).frames[0].read_meta()
    assert found["self"] == "open"
    assert found["supervisor"] == "PermissionError"
    assert found["fds"] == "PermissionError"
    assert found["oom"] == "500"


def _find_init(parent: int) -> int:
    with open(f"/proc/{parent}/task/{parent}/children") as file:
        return int(file.read().split()[0])


def _members(namespace: str) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{name}/ns/pid") == namespace:
                found.append(int(name))
        except OSError:
            continue
    return found

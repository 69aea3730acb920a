"""A sandbox begins, talks, ends, and leaves nothing: whoever dies first."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import signal
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from sandbox_kernel.backends.base import Mount, SandboxSpec
from sandbox_kernel.backends.bubblewrap import BubblewrapBackend, cgroups, environment
from sandbox_kernel.errors import BackendUnavailable, SandboxDied, SettingsError
from tests.support.waiting import DEADLINE_S, until

ECHO = """
import os
while data := os.read(0, 65536):
    os.write(1, data)
"""
WAIT = "import os, time; os.write(1, b'up'); time.sleep(600)"


@pytest.fixture
async def launch():
    """Sandboxes of this process, closed after the test."""
    backend, made = BubblewrapBackend(), []

    def start(code, spec=None):
        python = environment.discover(None).executable
        sandbox = backend.launch_command(spec or SandboxSpec(), [python, "-I", "-S", "-c", code])
        made.append(sandbox)
        return sandbox

    yield start
    for sandbox in made:
        await sandbox.close()


async def read(sandbox, count):
    data = b""
    async for chunk in sandbox.receive():
        data += chunk
        if len(data) >= count:
            break
    return data


def groups_of(identity):
    return [
        os.path.join(directory, name)
        for directory in cgroups.parent_directories(cgroups.find_parents()).values()
        if os.path.isdir(directory)
        for name in os.listdir(directory)
        if name.endswith(identity)
    ]


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def test_bytes_go_through_unchanged_both_ways(launch):
    sandbox = launch(ECHO)
    sent = os.urandom(8 * 1024 * 1024)
    sending = asyncio.create_task(sandbox.send(sent))
    received = await read(sandbox, len(sent))
    await sending
    assert hashlib.sha256(received).digest() == hashlib.sha256(sent).digest()


async def test_greeting_is_there_before_a_loop_reads(launch):
    sandbox = launch(ECHO)
    sandbox.greet(b"hello")
    assert await read(sandbox, 5) == b"hello"


async def test_who_sends_waits_while_the_guest_does_not_read(launch):
    sandbox = launch("import os, time; os.write(1, b'up'); os.read(0, 1); time.sleep(600)")
    await read(sandbox, 2)
    sending = asyncio.create_task(sandbox.send(bytes(8 * 1024 * 1024)))
    done, _ = await asyncio.wait([sending], timeout=0.3)
    assert not done
    sandbox.kill()
    with pytest.raises(SandboxDied):
        await sending


async def test_guest_that_floods_waits_for_who_reads(launch):
    code = """
import os
written = 0
os.set_blocking(1, False)
try:
    while True:
        written += os.write(1, bytes(65536))
except BlockingIOError:
    os.write(2, b"%d" % written)
"""
    sandbox = launch(code)
    death = asyncio.create_task(sandbox.death())
    done, _ = await asyncio.wait([death], timeout=DEADLINE_S)
    assert done
    detail = death.result().detail
    written = int(detail.rpartition("'")[0].rpartition("'")[2])
    assert 0 < written <= 2 * 1024 * 1024


async def test_stream_ends_and_death_says_the_exit_code(launch):
    sandbox = launch("import os; os.write(1, b'x'); os._exit(7)")
    assert await read(sandbox, 100) == b"x"
    death = await sandbox.death()
    assert death.cause == "exited"
    assert "exit code 7" in death.detail


async def test_last_words_are_cleaned_and_bounded(launch):
    words = r"b'\x1b]52;c;aaaa\x07\x1b[2J\x00' + b'y' * 100000 + b'\xff\nthe end'"
    sandbox = launch(f"import os; os.write(2, {words}); os._exit(1)")
    detail = (await sandbox.death()).detail
    assert "the end" in detail
    assert len(detail) < 1000
    assert detail.isprintable()


async def test_sending_to_the_dead_raises(launch):
    sandbox = launch("pass")
    await sandbox.death()
    with pytest.raises(SandboxDied, match="exit code 0"):
        await sandbox.send(b"x" * 100_000)


async def test_killed_sandbox_is_gone_and_says_so(launch):
    sandbox = launch(WAIT)
    await read(sandbox, 2)
    sandbox.kill()
    sandbox.kill()
    assert (await sandbox.death()).cause == "killed"
    assert is_gone(sandbox.launcher_pid)
    assert groups_of(sandbox.id) == []


async def test_closing_takes_less_than_a_tenth_of_a_second(launch):
    times = []
    # Once the machine is ours at that moment.
    while min(times, default=1) >= 0.1 and len(times) < 50:
        sandbox = launch(WAIT)
        await read(sandbox, 2)
        start = time.monotonic()
        await sandbox.close()
        times.append(time.monotonic() - start)
        await sandbox.close()
        assert (await sandbox.death()).cause == "closed"
    assert min(times) < 0.1


async def test_closing_right_after_launch_leaves_nothing(launch):
    for delay in (0, 0.005, 0.01, 0.02, 0.03):
        sandbox = launch(WAIT)
        await asyncio.sleep(delay)
        await sandbox.close()
        assert is_gone(sandbox.launcher_pid)
        assert groups_of(sandbox.id) == []


async def test_who_still_receives_when_it_is_closed_comes_to_an_end(launch):
    for code in (WAIT, "import os\nwhile True: os.write(1, bytes(65536))"):
        sandbox = launch(code)

        has_begun = asyncio.Event()

        async def receive(sandbox=sandbox, has_begun=has_begun):
            async for _ in sandbox.receive():
                has_begun.set()

        receiving = asyncio.create_task(receive())
        await asyncio.wait_for(has_begun.wait(), DEADLINE_S)
        await sandbox.close()
        await asyncio.wait_for(receiving, DEADLINE_S)


async def test_no_descriptor_is_left_after_closing(launch):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        sandbox = launch(WAIT)
        await read(sandbox, 2)
        await sandbox.close()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_launch_returns_before_anything_runs(launch):
    times = []
    # The promise is 5 ms; a busy machine gets some more, and some more attempts.
    while min(times, default=1) >= 0.01 and len(times) < 50:
        start = time.monotonic()
        sandbox = launch(WAIT)
        times.append(time.monotonic() - start)
        await sandbox.close()
    assert min(times) < 0.01


async def test_measure_of_the_dead_is_what_was_last_known(launch):
    sandbox = launch("x = b'x' * (20 << 20)")
    await sandbox.death()
    usage = await sandbox.measure()
    if sandbox.groups:
        assert usage.peak_memory_bytes > 20 << 20
        assert usage.cpu_s > 0
    assert usage.memory_bytes == 0


async def test_what_it_does_not_have_is_refused_with_a_remedy():
    backend = BubblewrapBackend()
    with pytest.raises(SettingsError, match="no network but 'none'"):
        backend.launch(SandboxSpec(network="all"))
    with pytest.raises(SettingsError, match="has no images"):
        backend.launch(SandboxSpec(image="python:3"))
    with pytest.raises(SettingsError, match="has no runtimes"):
        backend.launch(SandboxSpec(runtime="runsc"))
    with pytest.raises(SettingsError, match="no directories of the host's owner"):
        backend.launch(SandboxSpec(mounts=(Mount("/data", "/srv"),)))


async def test_environment_that_only_root_may_read_is_refused_with_a_remedy(tmp_path, root):
    """Root's guests are another user; better to hear it before than as an import error."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)
    (tmp_path / "pyvenv.cfg").write_text(f"home = {os.path.dirname(sys.executable)}\n")
    tmp_path.chmod(0o700)
    spec = SandboxSpec(python=str(tmp_path / "bin/python"))
    with pytest.raises(BackendUnavailable, match=r"chmod -R o\+rX"):
        BubblewrapBackend().launch(spec)


async def test_home_files_are_there_at_the_start(launch, tmp_path):
    seed = tmp_path / "fonts.json"
    seed.write_bytes(b"[]")
    spec = SandboxSpec(
        home_files={".cache/matplotlib/fonts.json": str(seed), "gone": str(tmp_path / "none")}
    )
    code = """
import os
path = os.path.expanduser("~/.cache/matplotlib/fonts.json")
with open(path, "r+b") as file:
    os.write(1, file.read())
os.mkdir(os.path.dirname(path) + "/more")
os.write(1, b" %d" % os.path.exists(os.path.expanduser("~/gone")))
"""
    sandbox = launch(code, spec)
    assert await read(sandbox, 100) == b"[] 0"


def _start_alone(host):
    process = host.start()
    process.stdin.write(host.task(WAIT, is_alone=True))
    process.stdin.close()
    return process, json.loads(process.stdout.readline())


def _descendants(pid):
    from sandbox_kernel.backends.bubblewrap.diagnosis import descendants

    return [pid, *descendants(pid)]


def test_killed_owner_leaves_no_process_and_no_group(host):
    for _ in range(3):
        process, made = _start_alone(host)
        with closing(process.stdout), closing(process.stderr):
            processes = _descendants(made["launcher"])
            assert len(processes) >= 3
            process.kill()
            process.wait()
            for pid in processes:
                until(lambda pid=pid: is_gone(pid), f"the end of process {pid}")
            until(lambda made=made: not groups_of(made["id"]), "the end of its control groups")


def test_owner_killed_during_the_start_leaves_nothing(host):
    """At moments from before the launcher's start to after the guest's."""
    mark = f"# {secrets.token_hex(8)}"
    before = _all_groups()
    for delay in (0, 0.001, 0.002, 0.004, 0.008, 0.012, 0.016, 0.02, 0.03, 0.05):
        process = host.start()
        process.stdin.write(host.task(f"{WAIT}  {mark}", is_announced=True))
        process.stdin.close()
        assert process.stdout.readline() == "launching\n"
        time.sleep(delay)  # what is tested is a moment, not an event
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
    until(lambda: not list(_processes_with(mark)), "the end of the last process")
    until(lambda: not _groups_of_dead() - before, "the end of the last control group")


def _processes_with(mark):
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if mark.encode() in line and not is_gone(pid):
            yield pid


def _all_groups():
    return {
        name
        for directory in cgroups.parent_directories(cgroups.find_parents()).values()
        if os.path.isdir(directory)
        for name in os.listdir(directory)
        if name.count("-") == 3
    }


def _groups_of_dead():
    return {name for name in _all_groups() if cgroups.is_abandoned(name)}


def test_interrupt_of_the_owners_terminal_does_not_reach_the_sandbox(host):
    process = host.popen(
        ["-c", _IGNORE_AND_RUN % str(Path(__file__).parent)], start_new_session=True
    )
    process.stdin.write(host.task(WAIT, is_alone=True))
    process.stdin.close()
    with closing(process.stdout), closing(process.stderr):
        made = json.loads(process.stdout.readline())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.killpg(process.pid, number)
            os.kill(made["launcher"], number)
        processes = _descendants(made["launcher"])
        assert len(processes) >= 3
        assert not any(map(is_gone, processes))
        process.kill()
        process.wait()
        until(lambda: all(map(is_gone, processes)), "the end of all processes")


_IGNORE_AND_RUN = """
import runpy, signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
sys.path.insert(0, %r)
runpy.run_module("driver", run_name="__main__")
"""


def test_killed_launcher_takes_the_guest_along(host):
    process, made = _start_alone(host)
    with closing(process.stdout), closing(process.stderr):
        processes = _descendants(made["launcher"])
        os.kill(made["launcher"], signal.SIGKILL)
        answer = json.loads(process.stdout.readlines()[-1])
        process.wait()
    assert answer["death"][0] == "killed"
    assert "launcher" in answer["death"][1]
    until(lambda: all(map(is_gone, processes[1:])), "the end of all processes")
    until(lambda: not groups_of(made["id"]), "the end of its control groups")


def test_garbage_of_dead_owners_is_collected_and_no_other(root):
    kept, other = _start_alone(root)
    lost, made = _start_alone(root)
    try:
        if not groups_of(made["id"]):
            pytest.skip("no control group may be made here, so nothing can be left")
        os.kill(lost.pid, signal.SIGSTOP)  # so that it cannot clean up after its launcher
        os.kill(made["launcher"], signal.SIGKILL)
        lost.kill()
        lost.wait()
        assert groups_of(made["id"])
        removed = BubblewrapBackend().collect_garbage()
        assert [line for line in removed if made["id"] in line]
        assert groups_of(made["id"]) == []
        assert groups_of(other["id"])
        assert not is_gone(other["launcher"])
    finally:
        for process in (kept, lost):
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()
    until(lambda: not groups_of(other["id"]), "the end of its control groups")


FORBID = """
import ctypes, os, sys
uid, gid = os.getuid(), os.getgid()
assert ctypes.CDLL(None).unshare(0x10000000) == 0
for name, text in (
    ("setgroups", "deny"), ("uid_map", f"1000 {uid} 1"), ("gid_map", f"1000 {gid} 1")
):
    with open(f"/proc/self/{name}", "w") as file:
        file.write(text)
with open("/proc/sys/user/max_user_namespaces", "w") as file:
    file.write("0")
os.execv(sys.executable, [sys.executable, "-P", sys.argv[1]])
"""


def test_forbidden_user_namespaces_fail_with_the_settings_name(user):
    process = user.popen(["-c", FORBID, str(Path(__file__).parent / "driver.py")])
    output, errors = process.communicate(user.task("print(1)"), timeout=100)
    assert process.returncode == 0, errors
    cause, detail = json.loads(output)["death"]
    assert cause == "failed to start"
    assert "user.max_user_namespaces is 0" in detail
    assert "sudo sysctl user.max_user_namespaces=" in detail


CHECK = """
import json
from sandbox_kernel.backends import get
print(json.dumps(get("bubblewrap").check()))
"""


def test_check_finds_the_isolation_in_force(host):
    name, is_usable, boundary, reason, remedy, details = json.loads(host.outside(CHECK))
    assert (name, is_usable, remedy) == ("bubblewrap", True, "")
    assert "probe" in reason
    assert "no network" in boundary
    assert {"bwrap", "control groups", "memory limit", "seccomp", "uid"} <= set(details)


def test_check_names_what_forbids_it(user):
    process = user.popen(["-c", FORBID.replace("sys.argv[1]", f"'-c', {CHECK!r}")])
    output, errors = process.communicate("", timeout=100)
    assert process.returncode == 0, errors
    _, is_usable, _, reason, remedy, _ = json.loads(output)
    assert not is_usable
    assert "could not" in reason
    assert "max_user_namespaces" in remedy


async def test_check_works_inside_a_running_event_loop():
    assert BubblewrapBackend().check().is_usable


async def test_another_interpreter_can_be_chosen(launch):
    other = "/usr/bin/python3"
    if not os.path.exists(other) or os.path.realpath(other) == os.path.realpath(sys.executable):
        pytest.skip("there is no second Python here")
    found = environment.discover(other)
    backend = BubblewrapBackend()
    command = [found.executable, "-c", "import sys; print(sys.prefix)"]
    sandbox = backend.launch_command(SandboxSpec(python=other), command)
    try:
        assert (await read(sandbox, 100)).decode().strip() == found.prefix
    finally:
        await sandbox.close()

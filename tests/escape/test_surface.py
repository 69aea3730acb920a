"""What a hostile cell can see and touch of the host: nothing. THREATS 37-48.

The oracle: random canaries on the host (a file, a variable, a TCP listener, an abstract
socket) that must never appear inside; the same probe finds them outside.
"""

import asyncio
import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import docker_engine

CANARY = "canary-" + secrets.token_hex(16)


def outside(code: str, **environment: str) -> str:
    """What `code` prints when nothing isolates it: the twin."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )
    return done.stdout.strip()


@pytest.fixture
async def inside(open_session):
    driver = await open_session()

    async def run(code: str) -> str:
        cell = await driver.run(code)
        assert cell.outcome.status == "ok", cell.outcome.error
        assert (await driver.run("print('next')")).text() == "next\n"
        return cell.text().strip()

    return run


async def test_a_file_of_the_host_cannot_be_read(inside, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text(CANARY)
    tmp_path.chmod(0o755)
    secret.chmod(0o644)
    probe = (
        f"try: print(open({str(secret)!r}).read())\n"
        "except OSError as error: print(type(error).__name__)"
    )
    assert outside(probe) == CANARY
    assert await inside(probe) == "FileNotFoundError"


async def test_no_variable_of_the_host_is_inherited_by_any_process(inside, monkeypatch):
    monkeypatch.setenv("SANDBOX_TEST_CANARY", CANARY)
    probe = (
        "import os, glob\nfound = set()\n"
        "for path in glob.glob('/proc/[0-9]*/environ'):\n"
        "    try: found.update(open(path, 'rb').read().split(b'\\0'))\n"
        "    except OSError: pass\n"
        f"print(any(b'{CANARY}' in item for item in found))"
    )
    assert outside(probe, SANDBOX_TEST_CANARY=CANARY) == "True"
    assert await inside(probe) == "False"


async def test_a_listener_on_the_hosts_loopback_cannot_be_reached(inside):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        probe = (
            "import socket\n"
            f"try: socket.create_connection(('127.0.0.1', {port}), 5).close(); print('reached')\n"
            "except OSError: print('blocked')"
        )
        assert outside(probe) == "reached"
        assert await inside(probe) == "blocked"


async def test_an_abstract_socket_of_the_host_cannot_be_reached(inside):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + CANARY)
        server.listen()
        probe = (
            "import socket\ns = socket.socket(socket.AF_UNIX)\n"
            f"try: s.connect('\\0{CANARY}'); print('reached')\n"
            "except OSError: print('blocked')"
        )
        assert outside(probe) == "reached"
        assert await inside(probe) == "blocked"


async def test_the_only_network_device_is_an_unconnected_loopback(inside):
    probe = "print([line.split(':')[0].strip() for line in open('/proc/net/dev')][2:])"
    assert await inside(probe) == "['lo']"
    assert len(outside(probe)) >= len("['lo']")


async def test_uid_capabilities_and_filters_are_those_of_nobody(inside):
    status = await inside("print(open('/proc/self/status').read())")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    sets = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert {fields[name] for name in sets} == {"0" * 16}
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    assert "0" not in fields["Uid"].split()


async def test_outside_every_process_runs_as_an_unprivileged_user_too(backend, open_session):
    driver = await open_session()
    cell = await driver.run(f"import time\nmark = {CANARY!r}\nprint('ready')")
    assert cell.text() == "ready\n"
    if backend == "docker":  # the engine's children, not ours; its machine may be another
        uids = await asyncio.to_thread(docker_engine.uids, driver.sandbox.container_id)
    else:
        found = map(_sandboxed_uid, _descendants(os.getpid()))
        uids = {uid for uid in found if uid is not None}
    assert uids
    assert 0 not in uids


def _descendants(pid: int) -> list[int]:
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(child), *_descendants(int(child))]
    return found


def _sandboxed_uid(pid: int) -> int | None:
    """The real uid of `pid` as the host sees it, if it lives in another pid namespace."""
    try:
        if os.readlink(f"/proc/{pid}/ns/pid") == os.readlink("/proc/self/ns/pid"):
            return None
        return _status_uid(pid)
    except OSError:
        return None


def _status_uid(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("Uid:"):
            return int(line.split()[1])
    raise AssertionError("a process without a uid")


# name: (number on x86-64, arguments). All are refused with EPERM, ENOSYS or EINVAL.
REFUSED = {
    "ptrace": (101, (0, 0, 0, 0)),
    "process_vm_readv": (310, (1, 0, 0, 0, 0, 0)),
    "add_key": (248, (0, 0, 0, 0, 0)),
    "keyctl": (250, (0, 0, 0, 0, 0)),
    "userfaultfd": (323, (0,)),
    "bpf": (321, (0, 0, 0)),
    "perf_event_open": (298, (0, 0, -1, -1, 0)),
    "io_uring_setup": (425, (1, 0)),
    "mount": (165, (0, 0, 0, 0, 0)),
    "umount2": (166, (0, 0)),
    "pivot_root": (155, (0, 0)),
    "unshare": (272, (0x10000000,)),
    "setns": (308, (0, 0)),
    "fsopen": (430, (0, 0)),
    "open_by_handle_at": (304, (0, 0, 0)),
    "kexec_load": (246, (0, 0, 0, 0)),
    "init_module": (175, (0, 0, 0)),
    "reboot": (169, (0, 0, 0, 0)),
    "swapon": (167, (0, 0)),
    "clone3": (435, (0, 0)),
    "clone_newuser": (56, (0x10000000, 0, 0, 0, 0)),
    "shmget": (29, (0, 4096, 0o1600)),
    "personality": (135, (0x0400000,)),
}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")
@pytest.mark.parametrize("name", REFUSED)
async def test_a_system_call_that_widens_the_surface_is_refused(inside, name):
    number, arguments = REFUSED[name]
    probe = (
        "import ctypes, errno\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"args = [ctypes.c_long(a) for a in {arguments!r}]\n"
        f"done = libc.syscall(ctypes.c_long({number}), *args)\n"
        "print(errno.errorcode.get(ctypes.get_errno()) if done < 0 else 'allowed')"
    )
    assert await inside(probe) in {"EPERM", "ENOSYS"}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")
async def test_an_ordinary_system_call_is_allowed_by_the_same_probe(inside):
    probe = "import ctypes; print(ctypes.CDLL(None).syscall(ctypes.c_long(39)) > 0)"
    assert await inside(probe) == "True"


@pytest.mark.parametrize(
    ("family", "expected"),
    [("AF_INET", "made"), ("AF_INET6", "made"), ("AF_UNIX", "made")]
    + [(name, "refused") for name in ("AF_PACKET", "AF_NETLINK", "AF_VSOCK", "AF_ALG")],
)
async def test_only_plain_sockets_can_be_made(inside, family, expected):
    kind = "SOCK_SEQPACKET" if family == "AF_ALG" else "SOCK_STREAM"
    kind = "SOCK_RAW" if family in {"AF_PACKET", "AF_NETLINK"} else kind
    probe = (
        "import socket\n"
        f"try: socket.socket(socket.{family}, socket.{kind}); print('made')\n"
        "except OSError: print('refused')"
    )
    assert await inside(probe) == expected


async def test_raw_icmp_is_refused(inside):
    probe = (
        "import socket\n"
        "try: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP); print('made')\n"
        "except OSError: print('refused')"
    )
    assert await inside(probe) == "refused"


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/sysrq-trigger",
        "/proc/1/mem",
        "/etc/passwd",
        "/usr/bin/canary",
        "/dev/canary",
        "/run/canary",
        "/canary",
        # The environment that the cell runs in: bubblewrap's is the host's, docker's the image's.
        "{prefix}/canary",
    ],
)
async def test_nothing_but_the_own_directories_can_be_written(inside, path):
    probe = (
        f"import sys\npath = {path!r}.replace('{{prefix}}', sys.prefix)\n"
        "try: open(path, 'w').write('x'); print('written')\nexcept OSError: print('refused')"
    )
    assert await inside(probe) == "refused"
    path = path.replace("{prefix}", sys.prefix)
    assert not os.path.exists(path) or "canary" not in path


@pytest.mark.parametrize("path", ["/workspace/x", "/tmp/x", "~/x", "/dev/shm/x"])
async def test_the_own_directories_can_be_written(inside, path):
    probe = f"import os; print(open(os.path.expanduser({path!r}), 'w').write('x'))"
    assert await inside(probe) == "1"


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/dev/mem"])
async def test_what_tells_of_the_hosts_kernel_is_masked(inside, path):
    probe = f"try: print(len(open({path!r}, 'rb').read(100)))\nexcept OSError: print(0)"
    assert await inside(probe) == "0"


async def test_addresses_of_the_kernel_are_not_shown(inside):
    probe = (
        "try: print({line.split()[0].strip('0') for line in open('/proc/kallsyms')} - {''})\n"
        "except OSError: print('set()')"
    )
    assert await inside(probe) == "set()"


@pytest.mark.parametrize(
    "name", ["docker.sock", "containerd/containerd.sock", "podman/podman.sock"]
)
async def test_no_engines_socket_is_inside(inside, name):
    assert await inside(f"import os; print(os.path.exists('/run/{name}'))") == "False"


async def test_host_name_and_user_name_are_not_the_hosts(inside):
    said = await inside("import socket, getpass; print(socket.gethostname(), getpass.getuser())")
    assert said == "sandbox sandbox"


async def test_a_fresh_process_holds_three_descriptors(inside):
    probe = (
        "import subprocess\n"
        "print(subprocess.run(['ls', '/proc/self/fd'], capture_output=True, text=True).stdout)"
    )
    # ls itself opens the directory as 3.
    assert (await inside(probe)).split() == ["0", "1", "2", "3"]


async def test_no_key_connection_file_or_port_of_jupyter_is_inside(inside):
    probe = (
        "import fnmatch, os\nfound = []\n"
        "for place, folders, names in os.walk('/'):\n"
        "    if place == '/': folders[:] = set(folders) - {'proc', 'sys', 'usr'}\n"
        "    found += fnmatch.filter(names, 'kernel-*.json')\n"
        "found += [a for a in open('/proc/1/cmdline').read().split('\\0') if 'connection' in a]\n"
        "print(found)"
    )
    assert await inside(probe) == "[]"


async def test_the_supervisor_can_be_neither_killed_nor_read_nor_traced(inside):
    probe = (
        "import os, signal\n"
        "for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM):\n"
        "    os.kill(1, number)\n"
        "for name in ('mem', 'environ', 'fd/0', 'maps'):\n"
        "    try: print(name, os.open(f'/proc/1/{name}', os.O_RDONLY))\n"
        "    except OSError: pass"
    )
    assert await inside(probe) == ""


async def test_setuid_programs_give_no_rights(inside):
    probe = (
        "import subprocess\n"
        "done = subprocess.run(['su', '-c', 'id -u'], input='', capture_output=True, text=True)\n"
        "print(done.returncode != 0, done.stdout)"
    )
    assert await inside(probe) == "True"


async def test_two_sandboxes_see_nothing_of_each_other(open_session):
    first, second = await open_session(), await open_session()
    await first.run(
        f"open('/tmp/{CANARY}', 'w').write('x'); open('/dev/shm/{CANARY}', 'w').write('x')\n"
        "import socket, subprocess\nlistener = socket.socket(socket.AF_UNIX)\n"
        f"listener.bind('\\0{CANARY}'); listener.listen()\n"
        "t = socket.create_server(('127.0.0.1', 47123))\n"
        f"p = subprocess.Popen(['sleep', '600'], env={{'X': {CANARY!r}}})"
    )
    probe = (
        "import glob, os, socket\nseen = []\n"
        f"seen += [p for p in ('/tmp/{CANARY}', '/dev/shm/{CANARY}') if os.path.exists(p)]\n"
        "for path in glob.glob('/proc/[0-9]*/cmdline'):\n"
        "    if 'sleep' in open(path).read(): seen.append(path)\n"
        "try: socket.create_connection(('127.0.0.1', 47123), 2); seen.append('tcp')\n"
        "except OSError: pass\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        f"try: s.connect('\\0{CANARY}'); seen.append('unix')\n"
        "except OSError: pass\n"
        "print(seen)"
    )
    assert (await second.run(probe)).text() == "[]\n"
    twin = (await first.run(probe)).text()
    assert "tcp" in twin
    assert "unix" in twin
    assert CANARY in twin

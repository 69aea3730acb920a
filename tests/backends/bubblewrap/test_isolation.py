"""What a guest can see and do. Each denial has its twin: the same probe outside, or allowed."""

from __future__ import annotations

import json
import os
import secrets
import socket
from pathlib import Path

import pytest

READ_FILES = """
import json, os
def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
print(json.dumps([read(path) for path in {paths!r}]))
"""

SEE_HOST = """
import json, os, socket
def connects(family, address):
    try:
        with socket.socket(family) as client:
            client.settimeout(5)
            client.connect(address)
            return True
    except OSError:
        return False
print(json.dumps({{
    "file": os.path.exists({file!r}),
    "variable": {variable!r} in os.environ,
    "abstract": connects(socket.AF_UNIX, {abstract!r}),
    "loopback": connects(socket.AF_INET, ("127.0.0.1", {port})),
}}))
"""

STATUS = """
import json
rows = dict(line.split(":", 1) for line in open("/proc/self/status"))
import os
print(json.dumps({
    "pid": os.getpid(), "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(),
    "capabilities": [rows["Cap" + set].strip() for set in ("Inh", "Prm", "Eff", "Bnd", "Amb")],
    "no_new_privileges": rows["NoNewPrivs"].strip(), "seccomp": rows["Seccomp"].strip(),
    "hostname": os.uname().nodename, "descriptors": sorted(os.listdir("/proc/self/fd")),
    "cwd": os.getcwd(), "root": sorted(os.listdir("/")), "variables": sorted(os.environ),
    "ignored": int(rows["SigIgn"], 16), "blocked": int(rows["SigBlk"], 16),
    "groups_of_control": open("/proc/self/cgroup").read(),
}))
"""


@pytest.fixture
def canaries(tmp_path_factory):
    """Things of the host that no guest may see: a file, a variable, two listening sockets."""
    name = "canary-" + secrets.token_hex(8)
    file = Path("/tmp") / name
    file.write_text(name)
    abstract, loopback = socket.socket(socket.AF_UNIX), socket.socket()
    try:
        abstract.bind("\0" + name)
        abstract.listen(16)
        loopback.bind(("127.0.0.1", 0))
        loopback.listen(16)
        yield {
            "file": str(file),
            "variable": name.replace("-", "_"),
            "abstract": "\0" + name,
            "port": loopback.getsockname()[1],
        }
    finally:
        abstract.close()
        loopback.close()
        file.unlink()


def test_nothing_of_the_host_is_seen_inside(host, canaries):
    probe = SEE_HOST.format(**canaries)
    environment = {canaries["variable"]: "1"}
    inside = host.inside(probe, environment=environment)
    assert set(json.loads(inside.output).values()) == {False}
    assert set(json.loads(host.outside(probe, environment)).values()) == {True}


def test_first_process_has_no_rights_and_nothing_of_the_hosts(host):
    answer = host.inside(STATUS)
    seen = json.loads(answer.output)
    assert seen["pid"] == 1
    assert (seen["uid"], seen["gid"]) == (1000, 1000)
    assert set(seen["capabilities"]) == {"0000000000000000"}
    assert seen["no_new_privileges"] == "1"
    assert seen["seccomp"] == "2"
    assert seen["hostname"] == "sandbox"
    assert seen["descriptors"][:3] == ["0", "1", "2"]
    assert len(seen["descriptors"]) == 4  # and the one that lists them
    assert seen["cwd"] == "/workspace"
    assert not {"work", "mnt", "var", "srv", "boot", "media"} & set(seen["root"])
    assert "PYTHONPATH" not in seen["variables"]
    assert seen["blocked"] == 0
    assert str(answer.launcher) not in seen["groups_of_control"]
    assert answer.id not in seen["groups_of_control"]


def test_sandbox_of_root_is_a_user_of_its_own_outside(root):
    first, second = root.inside(STATUS), root.inside(STATUS)
    for answer in (first, second):
        assert answer.uids
        assert all(0x70000000 <= uid <= 0x7FFFFFFF for uid in answer.uids)
        assert str(answer.uids[0]) in answer.boundary
    assert first.uids != second.uids


def test_sandbox_of_a_user_stays_that_user_outside(user):
    answer = user.inside(STATUS)
    assert answer.uids == [user.uid if user.uid is not None else os.getuid()]


def test_host_files_that_only_root_may_read_stay_unread(host):
    paths = [
        "/etc/shadow",
        "/etc/pip.conf",
        "/etc/machine-id",
        "/root/.bash_history",
        "/proc/kcore",
    ]
    paths += ["/proc/1/environ", "/etc/hostname", "/proc/cmdline", "/proc/keys", "/proc/timer_list"]
    found = json.loads(host.inside(READ_FILES.format(paths=paths)).output)
    allowed = {"/proc/1/environ", "/etc/hostname"}  # its own, and synthetic
    assert [path for path, text in zip(paths, found, strict=True) if text] == [
        path for path in paths if path in allowed
    ]


WRITE = """
import json, os
def creates(path):
    name = os.path.join(path, "written-by-test")
    try:
        with open(name, "w"):
            pass
        os.unlink(name)
        return True
    except OSError:
        return False
mounts = [line.split()[4] for line in open("/proc/self/mountinfo")]
directories = [path for path in mounts if os.path.isdir(path)]
for top in ("/run", "/home", "/etc", "/dev", "/sys", "/root", "/opt", "/lib", "/usr/local"):
    directories += [where for where, names, files in os.walk(top)][:2000]
print(json.dumps(sorted({path for path in directories if creates(path)})))
"""


def test_only_the_four_places_can_be_written_to(host):
    """Elsewhere a tmpfs without a size, or a file of the host's, could be filled or changed."""
    written = json.loads(host.inside(WRITE).output)
    assert written == ["/dev/shm", "/home/sandbox", "/tmp", "/workspace"]


WRITE_KERNEL_SETTINGS = """
import json, os
found = []
for top in ("/proc/sys", "/proc/sysrq-trigger", "/sys", "/proc/fs", "/proc/irq", "/proc/bus"):
    for where, names, files in os.walk(top):
        for name in files:
            try:
                os.close(os.open(os.path.join(where, name), os.O_WRONLY))
                found.append(os.path.join(where, name))
            except OSError:
                pass
print(json.dumps([found, os.path.exists("/proc/sys/kernel/core_pattern")]))
"""


def test_no_setting_of_the_kernel_opens_for_writing(host):
    found, exists = json.loads(host.inside(WRITE_KERNEL_SETTINGS).output)
    assert found == []
    assert exists


def test_root_outside_could_write_the_core_pattern(root):
    """The twin: opening it is what bwrap started by root would have let a guest do."""
    code = "import os; os.close(os.open('/proc/sys/kernel/core_pattern', os.O_WRONLY))"
    root.outside(code)


CALL = """
import ctypes, errno, json, os
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *arguments):
    pid = os.fork()
    if pid == 0:
        ctypes.set_errno(0)
        result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in arguments])
        os._exit(ctypes.get_errno() if result == -1 else 0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(json.dumps({name: call(*arguments) for name, arguments in CALLS.items()}))
"""

# Arguments that fail outside with another errno than EPERM, or succeed.
REFUSED = {
    "io_uring_setup": (425, 0, 0),
    "io_uring_enter": (426, -1, 0, 0, 0, 0),
    "ptrace": (101, 0, 0, 0, 0),
    "process_vm_readv": (310, 1 << 21, 0, 0, 0, 0, 0),
    "process_vm_writev": (311, 1 << 21, 0, 0, 0, 0, 0),
    "keyctl": (250, 0, -3, 0),
    "add_key": (248, 0, 0, 0, 0, 0),
    "request_key": (249, 0, 0, 0, 0),
    "userfaultfd": (323, -1),
    "bpf": (321, -1, 0, 0),
    "perf_event_open": (298, 0, 0, 0, 0, 0),
    "unshare": (272, 0),
    "setns": (308, -1, 0),
    "mount": (165, 0, 0, 0, 0, 0),
    "umount2": (166, 0, -1),
    "open_tree": (428, -1, 0, 0),
    "move_mount": (429, -1, 0, -1, 0, 0),
    "fsopen": (430, 0, 0),
    "name_to_handle_at": (303, -1, 0, 0, 0, 0),
    "open_by_handle_at": (304, -1, 0, 0),
    "kcmp": (312, 1 << 21, 1 << 21, 0, 0, 0),
    "pidfd_getfd": (438, -1, 0, 0),
    "shmget": (29, 0, 4096, 0o1600),
    "semget": (64, 0, 1, 0o1600),
    "msgget": (68, 0, 0o1600),
    "fanotify_init": (300, -1, 0),
    "mq_open": (240, 0, 0, 0, 0),
    "personality": (135, 0x0040000),
    "modify_ldt": (154, 0, 0, 0),
    "clone with a user namespace": (56, 0x10000000 | 17, 0, 0, 0, 0),
    "socket AF_NETLINK": (41, 16, 3, 0),
    "socket AF_VSOCK": (41, 40, 1, 0),
    "socket AF_ALG": (41, 38, 5, 0),
    "socket SCTP": (41, 2, 5, 132),
    "socket MPTCP": (41, 2, 1, 262),
    "ioctl TIOCSTI": (16, 0, 0x5412, 0),
    "ioctl TIOCLINUX with high bits": (16, 0, 0x1_0000_541C, 0),
}
ALLOWED = {
    "getpid": (39,),
    "socket AF_UNIX": (41, 1, 1, 0),
    "socket AF_INET": (41, 2, 1, 0),
    "socket AF_INET6 datagrams": (41, 10, 2 | 0o2000000, 17),
    "personality?": (135, 0xFFFFFFFF),
}
MISSING = {"clone3": (435, 0, 0), "of the future": (999, 0)}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")
def test_system_calls_outside_of_the_list_are_refused(host):
    probe = f"CALLS = {REFUSED | ALLOWED | MISSING!r}\n{CALL}"
    inside = json.loads(host.inside(probe).output)
    assert {name for name in REFUSED if inside[name] != 1} == set()
    assert {name for name in ALLOWED if inside[name] != 0} == set()
    assert {name for name in MISSING if inside[name] != 38} == set()


# What root's rights or the network's absence decide outside is left to `test_seccomp`.
REFUSED_TO_ALL = {"socket SCTP", "bpf", "fanotify_init", "userfaultfd", "perf_event_open"}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")
def test_the_same_calls_get_past_the_door_outside(root):
    """The twin: without the filter the kernel looks at the arguments or does it."""
    outside = json.loads(root.outside(f"CALLS = {REFUSED | MISSING!r}\n{CALL}"))
    let_in = {name for name in REFUSED if outside[name] != 1}
    assert set(REFUSED) - let_in <= REFUSED_TO_ALL
    assert outside["clone3"] != 38


RUN_32_BIT = """
import os, mmap, ctypes
pid = os.fork()
if pid == 0:
    # mov eax, 20 (getpid of 32-bit programs); int 0x80; ret
    code = bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3])
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    os._exit(0 if ctypes.CFUNCTYPE(ctypes.c_int)(address)() > 0 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="int 0x80 is x86's")
def test_system_calls_of_32_bit_programs_end_the_process(host):
    assert host.inside(RUN_32_BIT).output.strip() == "-31"  # SIGSYS


def test_user_namespaces_cannot_be_made_by_a_tool_either(host):
    code = "import os; print(os.waitstatus_to_exitcode(os.system('unshare -U true 2>/dev/null')))"
    assert host.inside(code).output.strip() != "0"
    assert host.outside(code).strip() == "0"


def test_only_the_loopback_interface_is_there_and_it_works(host):
    code = """
import json, socket
names = [line.split(":")[0].strip() for line in open("/proc/net/dev").read().splitlines()[2:]]
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
def reaches(address):
    try:
        socket.create_connection(address, timeout=5).close()
        return True
    except OSError:
        return False
print(json.dumps([names, reaches(("169.254.169.254", 80)), reaches(("8.8.8.8", 53))]))
"""
    names, metadata, resolver = json.loads(host.inside(code).output)
    assert [name for name in names if name not in ("lo", "sit0", "tunl0", "ip6tnl0")] == []
    assert not metadata
    assert not resolver


def test_setuid_programs_give_nothing(host):
    code = """
import os
flags = {path: os.statvfs(path).f_flag for path in ("/usr", "/etc", "/workspace", "/tmp")}
print(all(flag & os.ST_NOSUID for flag in flags.values()), bool(flags["/usr"] & os.ST_RDONLY))
"""
    assert host.inside(code).output.split() == ["True", "True"]


def test_variables_of_the_spec_and_no_others_arrive(host):
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    task = {"spec": {"environment": {"ANSWER": "42 = \n ü"}}}
    seen = json.loads(host.inside(code, environment={"SECRET": "1"}, **task).output)
    assert seen.pop("ANSWER") == "42 = \n ü"
    assert seen["HOME"] == "/home/sandbox"
    assert seen["TMPDIR"] == "/tmp"
    known = {"HOME", "LANG", "LOGNAME", "PATH", "PWD", "SHELL", "TERM", "TMPDIR", "USER"}
    assert set(seen) <= known | {"VIRTUAL_ENV", "LC_CTYPE", "PYTHONUSERBASE"}


def test_variables_of_the_spec_are_in_no_command_line_of_the_host(root):
    code = "import os, sys; print(1, flush=True); sys.stdin.read(1)"
    secret = "value-" + secrets.token_hex(8)
    process = root.start()
    try:
        task = root.task(code, spec={"environment": {"KEY": secret}}, is_alone=True)
        process.stdin.write(task)
        process.stdin.close()
        process.stdout.readline()
        lines = []
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            try:
                lines.append(Path(f"/proc/{pid}/cmdline").read_bytes())
            except OSError:
                continue
        assert lines
        assert not [line for line in lines if secret.encode() in line]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()

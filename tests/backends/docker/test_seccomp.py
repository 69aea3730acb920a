"""The profile's verdicts: by a small interpreter of it, and by the engine itself."""

from __future__ import annotations

import errno
import itertools
import json
import os
import platform
from typing import Any

import pytest

from sandbox_kernel.backends import syscalls
from sandbox_kernel.backends.bubblewrap import seccomp as bubblewrap_seccomp
from sandbox_kernel.backends.docker import seccomp
from sandbox_kernel.errors import BackendUnavailable
from tests.backends.bubblewrap.test_seccomp import DENIED, run
from tests.support import docker_engine
from tests.support.syscall_probe import SCRATCH, Call, answers, image

HIGH = 0xFFFFFFFF00000000
ALLOWED = "allowed"
EPERM, ENOSYS = -errno.EPERM, -errno.ENOSYS


# --- the profile's words --------------------------------------------------------------


def verdict(profile: dict[str, Any], name: str, arguments: tuple[int, ...] = ()) -> str | int:
    """What the engine would do. Source: runc, libcontainer/seccomp/seccomp_linux.go."""
    words = [argument & 0xFFFFFFFFFFFFFFFF for argument in (*arguments, *[0] * 6)[:6]]
    matching = [
        rule
        for rule in profile["syscalls"]
        if name in rule["names"]
        and all(words[c["index"]] & c["value"] == c["valueTwo"] for c in rule["args"])
    ]
    if not matching:
        return -int(profile["defaultErrnoRet"])
    (action,) = {(rule["action"], rule.get("errnoRet", 1)) for rule in matching}
    return ALLOWED if action[0] == "SCMP_ACT_ALLOW" else -int(action[1])


@pytest.fixture(params=sorted(seccomp.ARCHITECTURES))
def profile(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {**json.loads(seccomp.profile(request.param)), "architecture": request.param}


# Low halves and high halves that the kernel would ignore.
WORDS = [0, 1, 2, 3, 5, 6, 10, 16, 17, 38, 40, 132, 0x5411, 0x5412, 0x5413, 0x541C, 0x541D]
WORDS += [0x80000, 0x10000000, 0x7E020000, 0x3D0F00, 0x40000, 0xFFFFFFFF, 0x80005412]
WORDS += [HIGH | 1, HIGH | 0x5412, 0x1_0000_541C, HIGH | 0x20000, 0x1_0000_0010]


def test_checked_calls_have_the_verdicts_of_the_bubblewrap_filter(profile):
    architecture = profile["architecture"]
    program = bubblewrap_seccomp.program(architecture)
    kind = bubblewrap_seccomp.ARCHITECTURES[architecture]
    table = syscalls.numbers(syscalls.CHECKED, architecture)
    for name, number in table.items():
        width = 3 if name == "socket" else 2
        for arguments in itertools.product(WORDS, repeat=width):
            theirs = run(program, number, arguments, kind)
            expected = ALLOWED if theirs == bubblewrap_seccomp.ALLOW else EPERM
            assert verdict(profile, name, arguments) == expected, (name, arguments)


def test_terminal_input_is_refused_and_its_neighbours_are_not(profile):
    refused = {syscalls.TIOCSTI, syscalls.TIOCLINUX}
    near = {value ^ (1 << bit) for value in refused for bit in range(32)}
    for command in {*range(0x5400, 0x5500), *near, 0, 0xFFFFFFFF} | refused:
        expected = EPERM if command in refused else ALLOWED
        assert verdict(profile, "ioctl", (0, command)) == expected, hex(command)
        assert verdict(profile, "ioctl", (0, HIGH | command)) == expected, hex(command)


def test_every_listed_call_is_allowed_and_no_other(profile):
    for name in syscalls.numbers(syscalls.ALLOWED, profile["architecture"]):
        assert verdict(profile, name) == ALLOWED, name
    for name in DENIED:
        assert verdict(profile, name) == EPERM, name
    assert verdict(profile, "clone3") == ENOSYS


def test_no_rule_has_two_conditions_on_one_argument(profile):
    """The engine would take them as alternatives."""
    for rule in profile["syscalls"]:
        indices = [condition["index"] for condition in rule["args"]]
        assert len(set(indices)) == len(indices), rule


def test_one_architecture_is_named(profile):
    assert profile["architectures"] == [seccomp.ARCHITECTURES[profile["architecture"]]]
    assert "archMap" not in profile


def test_unknown_machine_has_no_profile_and_so_no_container():
    with pytest.raises(BackendUnavailable, match="riscv64"):
        seccomp.profile("riscv64")


# --- the engine's deeds ---------------------------------------------------------------


AF_INET, AF_NETLINK, AF_PACKET, AF_ALG, AF_VSOCK = 2, 16, 17, 38, 40
SIGCHLD, VM_AND_VFORK = 17, 0x4100
NEW_USER, NEW_NET, NEW_NS = 0x10000000, 0x40000000, 0x20000

REFUSED: dict[str, Call] = {
    "io_uring_setup": Call(425, (1, SCRATCH)),
    "io_uring_enter": Call(426),
    "ptrace": Call(101, (0,)),
    "process_vm_readv": Call(310, (1,)),
    "process_vm_writev": Call(311, (1,)),
    "keyctl": Call(250, (0, -3, 1)),
    "add_key": Call(248),
    "request_key": Call(249),
    "userfaultfd": Call(323, (1,)),
    "bpf": Call(321),
    "perf_event_open": Call(298, (SCRATCH, 0, -1, -1)),
    "unshare of a user namespace": Call(272, (NEW_USER,)),
    "setns": Call(308),
    "clone with a user namespace": Call(56, (NEW_USER | SIGCHLD,), is_fork=True),
    "clone with a mount namespace": Call(56, (HIGH | NEW_NS | SIGCHLD,), is_fork=True),
    "clone with a network namespace": Call(56, (NEW_NET | SIGCHLD,), is_fork=True),
    "mount": Call(165),
    "open_tree": Call(428, (-100, SCRATCH)),
    "fsopen": Call(430, (SCRATCH,)),
    "chroot": Call(161, (SCRATCH,)),
    "a vsock socket": Call(41, (AF_VSOCK, 1)),
    "an alg socket": Call(41, (AF_ALG, 5)),
    "a packet socket": Call(41, (AF_PACKET, 3)),
    "a netlink socket": Call(41, (AF_NETLINK, 3)),
    "a netlink socket by its low half": Call(41, (HIGH | AF_NETLINK, 3)),
    "a raw socket": Call(41, (AF_INET, 3, 1)),
    "an SCTP socket": Call(41, (AF_INET, 1, 132)),
    "an MPTCP socket": Call(41, (AF_INET, 1, 262)),
    "a pair of internet sockets": Call(53, (AF_INET, 1, 0, SCRATCH)),
    "input into a terminal": Call(16, (0, 0x5412, SCRATCH)),
    "input into a terminal by its low half": Call(16, (0, HIGH | 0x5412, SCRATCH)),
    "keys of the console": Call(16, (0, 0x1_0000_541C, SCRATCH)),
    "a weaker personality": Call(135, (0x40000,)),
    "shmget": Call(29, (0, 4096, 0o1600)),
    "msgget": Call(68, (0, 0o1600)),
    "name_to_handle_at": Call(303, (-100, SCRATCH, SCRATCH, SCRATCH, 0)),
    "kcmp": Call(312, (1, 1)),
}
# The twins: each of these succeeds, or fails for another reason than the filter.
WORKING: dict[str, Call] = {
    "getpid": Call(39),
    "fork": Call(57, is_fork=True),
    "clone of a process": Call(56, (SIGCHLD,), is_fork=True),
    "clone that shares memory": Call(56, (VM_AND_VFORK | SIGCHLD,), is_fork=True),
    "a local socket": Call(41, (1, 1)),
    "a local socket of packets": Call(41, (1, 5)),
    "a closing local socket": Call(41, (HIGH | 1, 1 | 0o2000000 | 0o4000)),
    "an internet socket": Call(41, (2, 1, 6)),
    "an internet socket of datagrams": Call(41, (2, 2, 17)),
    "an IPv6 socket": Call(41, (10, 1, 0)),
    "a pair of local sockets": Call(53, (1, 1, 0, SCRATCH)),
    "memfd_create": Call(319, (SCRATCH, 0)),
    "the question for the personality": Call(135, (0xFFFFFFFF,)),
    "epoll_create1": Call(291),
    "getrandom": Call(318, (SCRATCH, 16, 0)),
    "gettid": Call(186),
}
# Allowed; the kernel then says that there is no such descriptor.
NO_DESCRIPTOR = {
    "the window's size": Call(16, (-1, 0x5413, SCRATCH)),
    "what waits to be read, by its low half": Call(16, (-1, HIGH | 0x541B, SCRATCH)),
}
UNKNOWN = {"clone3": Call(435, (SCRATCH, 88)), "a call that nobody has": Call(600)}


@pytest.fixture(scope="module")
def api() -> Any:
    if platform.machine() != "x86_64":
        pytest.skip("the probe is a program for x86-64")
    docker_engine.require()
    return docker_engine.api()


# Without capabilities, or with the sysctls of a careful machine, the kernel itself says EPERM
# to these. And whoever asks to be traced stops.
NEEDS_MORE = {
    *("mount", "fsopen", "open_tree", "chroot", "setns", "a packet socket", "a raw socket"),
    *("io_uring_setup", "io_uring_enter", "bpf", "perf_event_open", "userfaultfd", "ptrace"),
    *(name for name in REFUSED if name.startswith(("unshare", "clone"))),
}


def run_container(api: Any, calls: list[Call], **options: bool) -> tuple[int, list[int]]:
    """Make `calls` in a container with our profile; its exit code and the answers."""
    name = f"sandbox-kernel-test/probe-{os.urandom(4).hex()}"
    answer = json.loads(api.import_image_from_data(image(calls, **options), repository=name))
    try:
        return _run_image(api, answer["status"])
    finally:
        api.remove_image(answer["status"], force=True)


def _run_image(api: Any, identity: str) -> tuple[int, list[int]]:
    security = ["no-new-privileges", f"seccomp={seccomp.profile('x86_64')}"]
    made = api.create_container(
        identity,
        command=["/probe"],
        user="61184:61184",
        network_disabled=True,
        host_config=api.create_host_config(
            security_opt=security, cap_drop=["ALL"], network_mode="none", read_only=True
        ),
    )["Id"]
    try:
        # Attached, since a log would take the bytes for text.
        output = api.attach(made, stdout=True, stderr=False, stream=True)
        api.start(made)
        code = api.wait(made, timeout=30)["StatusCode"]
        return code, answers(b"".join(output))
    finally:
        api.remove_container(made, force=True, v=True)


def test_the_engine_refuses_what_escapes_are_made_of_and_nothing_else(api):
    wanted = {**REFUSED, **WORKING, **NO_DESCRIPTOR, **UNKNOWN}
    code, found = run_container(api, list(wanted.values()))
    assert code == 0
    said = dict(zip(wanted, found, strict=True))
    assert {name: said[name] for name in REFUSED} == dict.fromkeys(REFUSED, EPERM)
    assert {name: said[name] for name in UNKNOWN} == dict.fromkeys(UNKNOWN, ENOSYS)
    assert [name for name in WORKING if said[name] < 0] == []
    assert [name for name in NO_DESCRIPTOR if said[name] != -errno.EBADF] == []


def test_the_probe_succeeds_without_the_profile(api, monkeypatch):
    """The twin: what is refused above is there for a process of this machine."""
    monkeypatch.setattr(seccomp, "profile", lambda _architecture: "unconfined")
    tried = {name: call for name, call in REFUSED.items() if name not in NEEDS_MORE}
    code, found = run_container(api, list(tried.values()))
    assert code == 0
    assert [name for name, answer in zip(tried, found, strict=True) if answer == EPERM] == []


@pytest.mark.parametrize("kind", ["32-bit", "x32"])
def test_calls_of_another_kind_end_the_process_or_are_unknown(api, kind):
    """Their numbers would slip past the list: 20 is getpid here and writev there."""
    number = 20 if kind == "32-bit" else 0x40000000 | 39
    code, found = run_container(api, [Call(number)], is_32_bit=kind == "32-bit")
    assert code == 128 + 31 or found == [ENOSYS]  # SIGSYS

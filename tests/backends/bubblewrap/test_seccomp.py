"""The filter's verdicts, by a small interpreter of BPF: both architectures, no kernel needed."""

from __future__ import annotations

import errno
import struct

import pytest

from sandbox_kernel.backends import syscalls
from sandbox_kernel.backends.bubblewrap import seccomp
from sandbox_kernel.errors import BackendUnavailable

EPERM = 0x00050000 | errno.EPERM
ENOSYS = 0x00050000 | errno.ENOSYS
HIGH = 0xFFFFFFFF00000000


def run(program, number, arguments=(), architecture=0xC000003E):
    """What the kernel would do with this call. Source: seccomp(2), struct seccomp_data."""
    words = [argument & 0xFFFFFFFFFFFFFFFF for argument in (*arguments, *[0] * 6)[:6]]
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, architecture, 0x7F00_0000_1000, *words)
    accumulator, position = 0, 0
    code = [struct.unpack_from("=HBBI", program, start) for start in range(0, len(program), 8)]
    while True:
        operation, if_true, if_false, constant = code[position]
        position += 1
        if operation == 0x06:
            return constant
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, constant)
        elif operation == 0x54:
            accumulator &= constant
        else:
            holds = {
                0x15: accumulator == constant,
                0x25: accumulator > constant,
                0x35: accumulator >= constant,
                0x45: accumulator & constant != 0,
            }[operation]
            position += if_true if holds else if_false


@pytest.fixture(params=sorted(seccomp.ARCHITECTURES))
def call(request):
    """Name (or number) and arguments to verdict, on each architecture."""
    name = request.param
    known = {}
    for table in (syscalls.ALLOWED, syscalls.CHECKED, syscalls.MISSING):
        known |= syscalls.numbers(table, name)

    def verdict(what, *arguments, **options):
        number = known[what] if isinstance(what, str) else what
        architecture = seccomp.ARCHITECTURES[name]
        return run(seccomp.program(name, **options), number, arguments, architecture)

    verdict.architecture = name
    verdict.known = known
    return verdict


def test_listed_calls_are_allowed(call):
    for name in syscalls.numbers(syscalls.ALLOWED, call.architecture):
        assert call(name) == seccomp.ALLOW, name


def test_every_number_not_listed_is_refused_or_unknown(call):
    listed = set(call.known.values())
    for number in range(1024):
        if number not in listed:
            expected = EPERM if number <= syscalls.NEWEST else ENOSYS
            assert call(number) == expected, number


# Numbers from the kernel's own tables: x86-64, aarch64.
DENIED = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "userfaultfd": (323, 282),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    "kexec_load": (246, 104),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "swapon": (167, 224),
    "reboot": (169, 142),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "vhangup": (153, 58),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "syslog": (103, 116),
    "sethostname": (170, 161),
    "lookup_dcookie": (212, 18),
    "memfd_secret": (447, 447),
}


@pytest.mark.parametrize("name", DENIED)
def test_dangerous_calls_are_refused(call, name):
    number = DENIED[name][0 if call.architecture == "x86_64" else 1]
    assert call(number) == EPERM


def test_clone3_is_missing_so_that_clone_is_used(call):
    assert call("clone3") == ENOSYS


@pytest.mark.parametrize(
    "flag", [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000]
)
def test_clone_makes_processes_and_threads_but_no_namespaces(call, flag):
    assert call("clone", 17) == seccomp.ALLOW
    assert call("clone", 0x3D0F00) == seccomp.ALLOW  # what glibc's threads ask for
    assert call("clone", flag | 17) == EPERM
    assert call("clone", HIGH | flag) == EPERM


def test_sockets_are_local_or_internet_and_plain(call):
    for family in (1, 2, 10):
        assert call("socket", family, 1 | 0o2000000 | 0o4000, 0) == seccomp.ALLOW
        assert call("socket", family, 2, 0) == seccomp.ALLOW
        assert call("socket", family, 3, 0) == EPERM  # raw
    assert call("socket", 1, 5, 0) == seccomp.ALLOW
    assert call("socket", 2, 5, 0) == EPERM  # SCTP by its type
    assert call("socket", 2, 1, 6) == seccomp.ALLOW
    assert call("socket", 10, 2, 17) == seccomp.ALLOW
    for protocol in (132, 33, 136, 262, 255):
        assert call("socket", 2, 1, protocol) == EPERM


@pytest.mark.parametrize("family", [0, 3, 15, 16, 17, 38, 40, 44, 0xFFFFFFFF, HIGH | 16])
def test_other_families_of_sockets_are_refused(call, family):
    assert call("socket", family, 1, 0) == EPERM
    assert call("socketpair", family, 1, 0) == EPERM


def test_pairs_of_sockets_are_local_ones(call):
    assert call("socketpair", 1, 1, 0) == seccomp.ALLOW
    assert call("socketpair", 2, 1, 0) == EPERM


def test_input_cannot_be_pushed_into_a_terminal(call):
    for command in (0x5412, 0x541C, HIGH | 0x5412):
        assert call("ioctl", 0, command) == EPERM
    for command in (0x5401, 0x5413, 0x541B):
        assert call("ioctl", 0, command) == seccomp.ALLOW


def test_personality_can_be_asked_for_but_not_weakened(call):
    assert call("personality", 0) == seccomp.ALLOW
    assert call("personality", 0xFFFFFFFF) == seccomp.ALLOW
    for weaker in (0x0040000, 0x0400000, 0x0000008, HIGH | 0x0040000):
        assert call("personality", weaker) == EPERM


def test_other_architectures_end_the_process():
    program = seccomp.program("x86_64")
    for architecture in (0x40000003, 0xC00000B7, 0):
        assert run(program, 0, architecture=architecture) == seccomp.KILL_PROCESS
    program = seccomp.program("aarch64")
    for architecture in (0x40000028, 0xC000003E, 0):
        assert run(program, 63, architecture=architecture) == seccomp.KILL_PROCESS


def test_x32_numbers_end_the_process():
    program = seccomp.program("x86_64")
    for number in (0x40000000, 0x40000000 | 59, 0x40000200, 0x80000000, 0xFFFFFFFF):
        assert run(program, number) == seccomp.KILL_PROCESS


def test_weaker_means_of_limiting_bring_further_refusals(call):
    assert call("sched_setaffinity") == call("memfd_create") == seccomp.ALLOW
    assert call("sched_setaffinity", allow_affinity=False) == EPERM
    assert call("memfd_create", allow_memfd=False) == EPERM
    assert call("sched_getaffinity", allow_affinity=False) == seccomp.ALLOW


def test_kernel_takes_a_program_of_this_length(call):
    assert len(seccomp.program(call.architecture)) // 8 < 4096


def test_unknown_machine_has_no_filter_and_so_no_sandbox():
    with pytest.raises(BackendUnavailable, match="riscv64"):
        seccomp.program("riscv64")

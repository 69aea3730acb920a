"""The filter on system calls, as the bytes of a BPF program. Pure, no I/O.

Rule 1: what is not listed in `backends.syscalls` is refused: EPERM for calls that we know and do
not want, ENOSYS for those newer than the list, as an older kernel would answer.
Rule 2: 64-bit calls of the machine's own kind only. Another architecture's numbers (32-bit
and x32 programs) would slip past the list, so they end the process.
Rule 3: an argument is compared in the width that the kernel reads, the low 32 bits of all
that are checked here; what the ignored half holds cannot change the call.

Source: seccomp(2), linux/filter.h, linux/seccomp.h.
"""

from __future__ import annotations

import errno
import struct
from functools import lru_cache

from sandbox_kernel.backends import syscalls
from sandbox_kernel.errors import BackendUnavailable

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32_BIT = 0x40000000

KILL_PROCESS, ALLOW = 0x80000000, 0x7FFF0000
REFUSE, UNKNOWN = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS

_LOAD, _RETURN = 0x20, 0x06
_JUMP_EQUAL, _JUMP_GREATER, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _AND = 0x15, 0x25, 0x35, 0x45, 0x54
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant


@lru_cache(maxsize=8)
def program(architecture: str, *, allow_affinity: bool = True, allow_memfd: bool = True) -> bytes:
    """The filter for "x86_64" or "aarch64", as bwrap's `--seccomp` reads it.

    Args:
        architecture: what `os.uname().machine` says.
        allow_affinity: False where the limit on CPUs is an affinity, which a guest could widen.
        allow_memfd: False where no cgroup counts memory: a memfd's pages belong to no process.

    Raises:
        BackendUnavailable: there is no list for this architecture.
    """
    if architecture not in ARCHITECTURES:
        raise BackendUnavailable(
            f"There is no system call filter for {architecture!r}; bubblewrap sandboxes run on "
            f"{' and '.join(ARCHITECTURES)}. Use another backend on this machine."
        )
    allowed = syscalls.numbers(syscalls.ALLOWED, architecture)
    if not allow_affinity:
        del allowed["sched_setaffinity"]
    if not allow_memfd:
        del allowed["memfd_create"]
    code = _entry(architecture)
    for name, number in syscalls.numbers(syscalls.CHECKED, architecture).items():
        check = _CHECKS[name]
        code += [(_JUMP_EQUAL, 0, len(check), number), *check]
    for number in syscalls.numbers(syscalls.MISSING, architecture).values():
        code += [(_JUMP_EQUAL, 0, 1, number), _end(UNKNOWN)]
    for low, high in _ranges(sorted(allowed.values())):
        code += [(_JUMP_AT_LEAST, 0, 2, low), (_JUMP_GREATER, 1, 0, high), _end(ALLOW)]
    code += [(_JUMP_GREATER, 0, 1, syscalls.NEWEST), _end(UNKNOWN), _end(REFUSE)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _entry(architecture: str) -> list[Instruction]:
    """Only this architecture goes on; the call's number is loaded."""
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_EQUAL, 1, 0, ARCHITECTURES[architecture]),
        _end(KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    if architecture == "x86_64":
        code += [(_JUMP_AT_LEAST, 0, 1, X32_BIT), _end(KILL_PROCESS)]
    return code


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges


def _end(verdict: int) -> Instruction:
    return (_RETURN, 0, 0, verdict)


def _argument(index: int) -> Instruction:
    """Load the low half of an argument: both architectures are little-endian."""
    return (_LOAD, 0, 0, 16 + 8 * index)


def _one_of(index: int, values: tuple[int, ...], mask: int = 0) -> list[Instruction]:
    """Go on when the argument is one of `values`, else refuse."""
    tests = [
        (_JUMP_EQUAL, len(values) - position, 0, value) for position, value in enumerate(values)
    ]
    masking = [(_AND, 0, 0, mask)] if mask else []
    return [_argument(index), *masking, *tests, _end(REFUSE)]


def _none_of(index: int, values: tuple[int, ...]) -> list[Instruction]:
    """Go on unless the argument is one of `values`."""
    code = [_argument(index)]
    for value in values:
        code += [(_JUMP_EQUAL, 0, 1, value), _end(REFUSE)]
    return code


def _socket() -> list[Instruction]:
    inet = [
        *_one_of(0, (syscalls.AF_INET, syscalls.AF_INET6)),
        *_one_of(1, syscalls.INET_TYPES, syscalls.SOCKET_TYPE_MASK),
        *_one_of(2, syscalls.SOCKET_PROTOCOLS),
        _end(ALLOW),
    ]
    unix = [
        *_one_of(1, syscalls.UNIX_TYPES, syscalls.SOCKET_TYPE_MASK),
        _end(ALLOW),
    ]
    return [_argument(0), (_JUMP_EQUAL, 0, len(unix), syscalls.AF_UNIX), *unix, *inet]


_CHECKS: dict[str, list[Instruction]] = {
    "ioctl": [*_none_of(1, (syscalls.TIOCSTI, syscalls.TIOCLINUX)), _end(ALLOW)],
    "socket": _socket(),
    "socketpair": [*_one_of(0, (syscalls.AF_UNIX,)), _end(ALLOW)],
    "clone": [
        _argument(0),
        (_JUMP_ANY_BIT, 0, 1, syscalls.NAMESPACE_FLAGS),
        _end(REFUSE),
        _end(ALLOW),
    ],
    "personality": [*_one_of(0, syscalls.PERSONALITIES), _end(ALLOW)],
}

"""The filter on system calls, as the profile that an engine's API takes. Pure, no I/O.

The policy is that of `backends.syscalls`, said in Docker's words: what is not listed here
answers EPERM. Beyond the newest number of the list runc (1.0.0-rc93 and later) answers
ENOSYS by itself, as an older kernel would.

Rule 1: an argument is compared under a mask of its low 32 bits, which are what the kernel
reads. Docker compares 64 bits: with a plain `not equal`, a flag in the ignored half would
make a refused call another value, and the kernel would make the refused call.
Rule 2: no rule has two conditions on one argument: the engine takes those as "or".
Rule 3: rules here only allow. An allowed call with a refused argument is one that no rule
names; what a list of exceptions would do depends on their order in libseccomp.
Rule 4: one architecture and no others beside it. 32-bit and x32 calls end the process.

gVisor has no use for the profile and ignores it: its own kernel answers the calls.

Source: docs.docker.com/engine/security/seccomp; github.com/moby/profiles, seccomp/seccomp.go;
runc's libcontainer/seccomp/seccomp_linux.go and patchbpf/enosys_linux.go.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from sandbox_kernel.backends import syscalls
from sandbox_kernel.errors import BackendUnavailable

# What `uname` calls an architecture: what libseccomp calls it.
ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
_LOW_HALF = 0xFFFFFFFF

Condition = dict[str, Any]


@lru_cache(maxsize=2)
def profile(architecture: str) -> str:
    """The profile as JSON, for `SecurityOpt: ["seccomp=…"]`.

    Args:
        architecture: the engine's, as `docker info` says it.

    Raises:
        BackendUnavailable: there is no list for this architecture.
    """
    if architecture not in ARCHITECTURES:
        raise BackendUnavailable(
            f"There is no system call filter for {architecture!r}; containers of ours run on "
            f"{' and '.join(ARCHITECTURES)}. Use an engine on such a machine."
        )
    content = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "architectures": [ARCHITECTURES[architecture]],
        "syscalls": [
            _rule(syscalls.numbers(syscalls.ALLOWED, architecture)),
            *(
                _rule([name], conditions)
                for name in syscalls.numbers(syscalls.CHECKED, architecture)
                for conditions in _CHECKS[name]
            ),
            _missing(syscalls.numbers(syscalls.MISSING, architecture)),
        ],
    }
    return json.dumps(content, separators=(",", ":"))


def _rule(names: Iterable[str], conditions: Iterable[Condition] = ()) -> dict[str, Any]:
    """These calls are allowed when all of the conditions hold."""
    return {"names": list(names), "action": "SCMP_ACT_ALLOW", "args": list(conditions)}


def _missing(names: Iterable[str]) -> dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS, "args": []}


def _is(index: int, value: int, mask: int = _LOW_HALF) -> Condition:
    """The bits of an argument that are in `mask` are those of `value`."""
    return {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}


def _none_of(index: int, values: Iterable[int]) -> Iterator[list[Condition]]:
    """The low half of an argument is none of `values`, as alternatives that may be allowed.

    Rule 1 leaves only "these bits are those": so it is every branch of the tree of 32-bit
    numbers in which none of them lies.
    """
    forbidden = tuple(values)
    for bit in range(31, -1, -1):
        prefixes = {value >> bit for value in forbidden}
        for sibling in sorted({prefix ^ 1 for prefix in prefixes} - prefixes):
            yield [_is(index, sibling << bit, _LOW_HALF >> bit << bit)]


def _sockets() -> Iterator[list[Condition]]:
    mask = syscalls.SOCKET_TYPE_MASK
    for kind in syscalls.UNIX_TYPES:
        yield [_is(0, syscalls.AF_UNIX), _is(1, kind, mask)]
    for family in (syscalls.AF_INET, syscalls.AF_INET6):
        for kind in syscalls.INET_TYPES:
            for protocol in syscalls.SOCKET_PROTOCOLS:
                yield [_is(0, family), _is(1, kind, mask), _is(2, protocol)]


# Call -> alternatives; each is a list of conditions that must all hold.
_CHECKS: dict[str, list[list[Condition]]] = {
    "ioctl": list(_none_of(1, (syscalls.TIOCSTI, syscalls.TIOCLINUX))),
    "socket": list(_sockets()),
    "socketpair": [[_is(0, syscalls.AF_UNIX)]],
    "clone": [[_is(0, 0, syscalls.NAMESPACE_FLAGS)]],
    "personality": [[_is(0, value)] for value in syscalls.PERSONALITIES],
}

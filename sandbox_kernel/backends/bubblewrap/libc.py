"""System calls that Python's `os` lacks: mount, unshare, prctl.

Imported by the launcher only, where every millisecond delays the guest: `_ctypes` is
the C half of `ctypes` and loads in 1 ms, `ctypes` itself in 5. No other import here.
"""

import _ctypes
import os

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_DUMPABLE = 38, 24, 36, 4
PR_SET_PDEATHSIG, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 1, 47, 4
SIG_SETMASK = 2


class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "l"


class _Function(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = _Long


_C = _ctypes.dlopen(None, os.RTLD_NOW)  # type: ignore[arg-type]


def call(name: str, *arguments: "int | bytes | None") -> int:
    """Call the C library's `name`; integers travel as `long`. Raises `OSError` on -1."""
    function = _Function(_ctypes.dlsym(_C, name))
    converted = [_Long(value) if isinstance(value, int) else value for value in arguments]
    _ctypes.set_errno(0)
    # An int function leaves the upper half of the register undefined.
    result = int(function(*converted)) & 0xFFFFFFFF
    if result == 0xFFFFFFFF:
        number = _ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return result


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """`mount(2)`. The error names `target`."""
    try:
        call(
            "mount",
            os.fsencode(source),
            os.fsencode(target),
            kind.encode() if kind else None,
            flags,
            data.encode() if data else None,
        )
    except OSError as error:
        raise OSError(error.errno, error.strerror, target) from None


def unshare(flags: int) -> None:
    call("unshare", flags)


def prctl(option: int, argument: int, second: int = 0) -> None:
    call("prctl", option, argument, second, 0, 0)


def drop_bounding_set() -> None:
    """Give up every capability for what is executed later, too."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:  # EINVAL: the kernel knows no more; EPERM: we have none to drop
            return


def unblock_signals() -> None:
    """The launcher blocks signals; what it starts must not inherit that."""
    call("sigprocmask", SIG_SETMASK, bytes(128), None)

"""Who owns a container, and which owners are gone.

A container ends when its owner's connection does, and the engine removes it then. This is
for what an engine that crashed in between left. Containers are all there is: sandboxes have
no network, no volume and no image of their own (the one of `layers` is everybody's); an
image's anonymous volumes go with the container.

Rule 1: found by label, never by name: a name is anybody's to give.
Rule 2: in doubt an owner lives. Many machines may share an engine, and many containers a
machine: only a process of this machine, this boot and this process namespace can be missed.
Rule 3: labels are somebody's text: what is not written as here is not ours.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

OWNER_LABEL = "org.sandbox-kernel.owner"
SESSION_LABEL = "org.sandbox-kernel.session"

_OWNER = re.compile(
    r"([0-9a-f]{32})/([0-9a-f-]{0,36})/([0-9]{0,20})/([1-9][0-9]{0,9})/([0-9]{0,20})"
)
_SESSION = re.compile(r"[0-9a-f]{1,64}")


class Owner(NamedTuple):
    """A process, so that no other one anywhere is it. "" is what a system does not tell."""

    machine: str
    boot: str
    namespace: str  # of process numbers
    pid: str
    start: str  # ticks after the boot


def labels(identity: str) -> dict[str, str]:
    """For a container of this process; `identity` is the sandbox's."""
    return {OWNER_LABEL: "/".join(_us()), SESSION_LABEL: identity}


def is_abandoned(found: Mapping[str, str]) -> bool:
    """Whether the labels are of a container whose owner is gone for sure."""
    match = _OWNER.fullmatch(found.get(OWNER_LABEL, ""))
    if match is None or SESSION_LABEL not in found:
        return False
    owner, us = Owner(*match.groups()), _us()
    if owner.machine != us.machine:
        return False
    if owner.boot != us.boot:
        return bool(owner.boot and us.boot)
    return owner.namespace == us.namespace and _is_gone(int(owner.pid), owner.start)


def collect(api: Any) -> list[str]:
    """Remove the abandoned containers of an engine; a line for each that is gone now.

    Args:
        api: a `docker.APIClient`.

    Raises:
        BackendUnavailable: the engine does not answer.
    """
    from docker.errors import APIError
    from requests.exceptions import RequestException

    from sandbox_kernel.backends.docker import engine

    removed = []
    try:
        for row in api.containers(all=True, filters={"label": [OWNER_LABEL]}):
            if is_abandoned(row.get("Labels") or {}) and _remove(api, str(row["Id"])):
                removed.append(_line(row))
    except (APIError, RequestException, OSError) as error:
        raise engine.unavailable(error) from None
    return removed


def _remove(api: Any, container_id: str) -> bool:
    """False: somebody else removes it, or it cannot be removed now; `gc` looks again."""
    from docker.errors import APIError

    try:
        # With the volumes that its image brought, which nobody else knows.
        api.remove_container(container_id, force=True, v=True)
    except APIError:
        return False
    return True


def _line(row: Mapping[str, Any]) -> str:
    session = str(row["Labels"].get(SESSION_LABEL, ""))
    shown = session if _SESSION.fullmatch(session) else "?"
    return f"container {str(row['Id'])[:12]} of sandbox {shown}, whose owner is gone"


# --- this process, and others -----------------------------------------------------------


def _us() -> Owner:
    # Not remembered: a forked child has another number than its parent.
    pid = os.getpid()
    start = _start(pid) or ""
    return Owner(
        _machine(), _read("/proc/sys/kernel/random/boot_id"), _namespace(), str(pid), start
    )


@lru_cache(maxsize=1)
def _machine() -> str:
    """Hashed, since a machine's id is not for others to read.

    With the name: machines made from one image often have one id, and so have containers.
    """
    from hashlib import sha256

    return sha256(f"{_read('/etc/machine-id')}\n{os.uname().nodename}".encode()).hexdigest()[:32]


def _namespace() -> str:
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return ""


def _start(pid: int) -> str | None:
    """When a living process started; None when it cannot be seen, "" when it is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name may hold spaces and brackets; after its last bracket fields are plain.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def _is_gone(pid: int, start: str) -> bool:
    found = _start(pid)
    if found is not None:
        return found != start
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass  # it is another user's, whom /proc may hide
    return False


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""

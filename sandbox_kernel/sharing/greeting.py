"""What a kernel says first to whoever connects: what it is, and what its sandbox is.

The kernel may be of another version, or hang: whatever it says is checked, and what it does
not say within a few seconds is never waited for.
"""

from __future__ import annotations

import asyncio
from typing import Any

from sandbox_kernel import __version__
from sandbox_kernel.backends.base import SandboxSpec
from sandbox_kernel.errors import BackendUnavailable, SettingsError
from sandbox_kernel.limits import Limits
from sandbox_kernel.sharing import wire
from sandbox_kernel.sharing.wire import Json, ProtocolError

# A kernel that doesn't greet by then hangs, or is stopped.
PATIENCE_S = 10.0


class HungUp(Exception):
    """A kernel closed the connection without a word. Never leaves this package."""


async def greeted(reader: asyncio.StreamReader) -> Json:
    """What a kernel says first.

    Raises:
        HungUp: nothing, and then it closed.
        BackendUnavailable: it says nothing, or nothing of ours.
    """
    try:
        async with asyncio.timeout(PATIENCE_S):
            message = await wire.read(reader)
    except TimeoutError:
        problem = f"it did not answer within {PATIENCE_S:g} s"
    except ProtocolError as error:
        problem = f"what it says is no message of ours: {error}"
    else:
        if message is None:
            raise HungUp
        if message[0].get("kind") == "hello":
            return message[0]
        problem = "what it says is no greeting"
    raise BackendUnavailable(
        f"The notebook's kernel cannot be attached to: {problem}. Restart it, or choose another."
    )


def check_version(greeting: Json) -> None:
    """
    Raises:
        BackendUnavailable: the kernel is of another version than this program.
    """
    theirs = (greeting.get("protocol"), greeting.get("version"))
    if theirs != (wire.PROTOCOL, __version__):
        raise BackendUnavailable(
            f"The notebook's kernel runs sandbox-kernel {str(theirs[1])[:40]}, and this program "
            f"{__version__}. Restart the notebook's kernel, or run the program with its Python."
        )


def spec_of(greeting: Json) -> SandboxSpec:
    """What the kernel says of its sandbox; what it doesn't, as by default.

    Raises:
        BackendUnavailable: its limits are none that this version knows.
    """
    said = greeting.get("spec")
    known = {name: value for name, value in (said or {}).items() if name in SandboxSpec._fields}
    return SandboxSpec(
        language=str(greeting.get("language")), limits=_limits(greeting.get("limits")), **known
    )


def _limits(said: Any) -> Limits:
    try:
        return Limits(**said)
    except (TypeError, SettingsError):
        raise BackendUnavailable(
            f"The notebook's kernel states limits that this version ({__version__}) does not "
            "know. Restart it."
        ) from None

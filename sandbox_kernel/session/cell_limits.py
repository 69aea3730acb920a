"""Limits that hold for one cell only, where the backend can change a running sandbox."""

from __future__ import annotations

from sandbox_kernel.errors import SandboxKernelError, SettingsError
from sandbox_kernel.limits import Limits
from sandbox_kernel.session.guest import Guest


async def change(guest: Guest, own: Limits, memory_bytes: int | None, cpus: float | None) -> Limits:
    """Change the running sandbox for one cell; what is in force then.

    Raises:
        SettingsError: the limits cannot be, or not here.
    """
    wanted = {"memory_bytes": memory_bytes, "cpus": cpus}
    changes = {name: value for name, value in wanted.items() if value is not None}
    if not changes:
        return own
    limits = Limits(**{**own._asdict(), **changes})
    try:
        await guest.sandbox.update(memory_bytes=memory_bytes, cpus=cpus)
    except SettingsError:
        await put_back(guest, own, limits)
        raise
    return limits


async def put_back(guest: Guest, own: Limits, limits: Limits) -> str:
    """The sandbox's own limits again; a sandbox that can't have them back is killed.

    Returns:
        What to tell the reader, or "".
    """
    if limits == own or guest.death is not None:
        return ""
    try:
        await guest.sandbox.update(memory_bytes=own.memory_bytes, cpus=own.cpus)
    except SandboxKernelError as error:
        guest.sandbox.kill()
        return f"The sandbox's own limits could not be put back: {error}"
    return ""

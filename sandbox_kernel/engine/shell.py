"""Shell commands in a session's workspace, beside its own language.

Each is `sh -c COMMAND` in a process of its own: files stay, the shell's variables don't, and
those of the session's language live on meanwhile. It ends as a cell does: by itself, by its
timeout or by an interrupt.
"""

from __future__ import annotations

import re
import secrets
import shlex
from typing import TYPE_CHECKING, Any

from sandbox_kernel.engine.choices import UNSET
from sandbox_kernel.engine.places import require_kept
from sandbox_kernel.errors import RequestRefused
from sandbox_kernel.languages import SHELL

if TYPE_CHECKING:
    from sandbox_kernel.engine.results import Result
    from sandbox_kernel.engine.session import Session

_NO_BACKGROUND = (
    "Nothing can be left running in this image: it has no Python 3.8 or newer, and there each "
    "command ends with all that it started. Choose an image that has it."
)


async def run_command(
    session: Session,
    command: str,
    *,
    background: bool = False,
    timeout_s: float | None = UNSET,
    **options: Any,
) -> Result:
    """Run `command`; `exit_code` is its own, 128 and the number for one that a signal ended.

    Args:
        background: leave it running, and return at once: `text` of the result is its process
            id, and what it prints goes to the hidden file of the workspace that `stdout` names.
            It ends with its sandbox, with a restart, and when code of the session has to be
            killed.
        options: as `Session.execute` has them.

    Raises:
        RequestRefused: it cannot be left running here.
        and as `Session.execute`.
    """
    if not background:
        return await session.execute(command, language=SHELL, timeout_s=timeout_s, **options)
    await require_background(session)
    result = await session.execute(
        in_background(command), language=SHELL, timeout_s=timeout_s, **options
    )
    return with_pid(result)


async def require_background(session: Session) -> None:
    """
    Raises:
        RequestRefused: what a run leaves behind is gone with it.
    """
    seat = require_kept(session._place, "A command in the background")
    if (await seat.start()).get("ends_processes"):
        raise RequestRefused(_NO_BACKGROUND)


def in_background(command: str) -> str:
    """A command that starts `command`, says where it can be found, and ends.

    In a session of its own no interrupt of a later command reaches it; with its own output
    no cell waits for it or shows what it prints.
    """
    log = f".background-{secrets.token_hex(4)}.log"
    run = f"sh -c {shlex.quote(command)}"
    return (
        f": >{log} || exit 1\n"
        f"if command -v setsid >/dev/null; then exec_it='exec setsid'; else exec_it=exec; fi\n"
        f"$exec_it {run} </dev/null >{log} 2>&1 &\n"
        f"echo $! {log}\n"
    )


def with_pid(result: Result) -> Result:
    """`result` of a command by `in_background`, its process id as the `text`."""
    told = re.fullmatch(r"([0-9]{1,10}) \.background-[0-9a-f]{8}\.log\n", result.stdout)
    return result._replace(text=told[1]) if told else result

"""The runners of a session's sandbox: the main one, and those of other languages.

Rule 1: a runner is made known to a sandbox before its first request there, once.
Rule 2: names that come out of the guest count only if they went in before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from sandbox_kernel import events, languages
from sandbox_kernel.errors import RequestRefused
from sandbox_kernel.guest.framing import Kind
from sandbox_kernel.session import causes
from sandbox_kernel.session.guest import Guest

# Of other languages: cells whose comms are still told apart, and comms.
MAX_REMEMBERED = 1000


class Runners:
    """Who runs what in one session.

    Args:
        language: the session's own: its runner is the main one, called "".
        is_in_image: whether the guest sees an image, and not this host.
    """

    def __init__(self, language: str, *, is_in_image: bool = False) -> None:
        self._language = language
        self._is_in_image = is_in_image
        self._cells: OrderedDict[int, str] = OrderedDict()
        self._comms: OrderedDict[str, str] = OrderedDict()

    def name(self, language: str) -> str:
        """What the runner of `language` is called."""
        return "" if language == self._language else language

    def title(self, runner: str) -> str:
        """The language that `runner` runs, for a reader.

        Raises:
            SettingsError: there is no such language.
        """
        return languages.get(runner or self._language).display_name

    async def require(self, guest: Guest, runner: str, next_cell: Callable[[], int]) -> None:
        """Make `runner` known in `guest`.

        Raises:
            RequestRefused: the guest cannot run it beside what it runs already.
            SandboxDied: it went away meanwhile.
            SettingsError: there is no such language.
        """
        if not runner or runner in guest.runners:
            return
        language = languages.get(runner)
        if self._is_in_image:
            language = language.in_image()
        asked = {"name": runner, "argv": list(language.runner_argv)}
        answer = await guest.ask(Kind.ADD_RUNNER, next_cell(), asked)
        if not isinstance(answer, events.Answered):
            raise RequestRefused(f"The sandbox has no place for {self.title(runner)}.")
        guest.runners.add(runner)

    def whose(self, guest: Guest, runner: str) -> str:
        """The title of `runner` where there are several to tell apart, else ""."""
        return self.title(runner) if guest.runners - {languages.SHELL} else ""

    def is_known(self, guest: Guest, runner: str) -> bool:
        """Whether `runner`, a word of the guest's, is one."""
        return not runner or runner in guest.runners

    def lost(self, guest: Guest, runner: str) -> str:
        """The sentence for a runner that is gone while the sandbox lives."""
        return causes.lost_runner(self.whose(guest, runner))

    # -- comms belong to the runner that opened them

    def note_cell(self, cell: int, runner: str) -> None:
        """`cell` runs in `runner`."""
        if runner:
            _remember(self._cells, cell, runner)

    def note_comm(self, event: events.CommSent) -> None:
        """A cell of some runner's sends a comm message."""
        if runner := self._cells.get(event.cell):
            _remember(self._comms, event.comm_id, runner)

    def of_comm(self, comm_id: str) -> str:
        """The runner that a front end's comm message is for."""
        return self._comms.get(comm_id, "")


def _remember(where: OrderedDict[Any, str], key: int | str, runner: str) -> None:
    where[key] = runner
    where.move_to_end(key)
    if len(where) > MAX_REMEMBERED:
        where.popitem(last=False)

"""The field's conformance kit, for a machine that stands still now and then.

The kit waits a tenth of a second for a message that must come, and takes as long a silence for
the end of what came before. Its tests, its samples and what it asserts are its own; here it
waits for what must come, and reads up to an idle that it has asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import jupyter_kernel_test as kit

from tests.support.waiting import DEADLINE_S, until

Message = dict[str, Any]


class Reader(Protocol):
    """A channel of `jupyter_client`'s."""

    get_msg: Any


def make_patient(channel: Reader) -> None:
    """Whoever reads `channel` waits for the next message, however short a time they named."""
    get_msg = channel.get_msg
    channel.get_msg = lambda *_, **_named: get_msg(timeout=DEADLINE_S)


class KernelTests(kit.KernelTests):
    """The kit's tests, which a kernel that is late by a second passes, too."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        make_patient(cls.kc.shell_channel)
        make_patient(cls.kc.iopub_channel)

    def flush_channels(self) -> None:
        """Read all that was sent up to now; the kit's own checks look at each message."""
        asked = self.kc.kernel_info()
        self._read_until(self.kc.get_shell_msg, asked, lambda _: True)
        is_idle = lambda content: content.get("execution_state") == "idle"  # noqa: E731
        self._read_until(self.kc.get_iopub_msg, asked, is_idle)

    def _read_until(
        self, get: Callable[[], Message], asked: str, is_last: Callable[[Message], bool]
    ) -> None:
        while True:
            message = get()
            kit.validate_message(message)
            if message["parent_header"].get("msg_id") == asked and is_last(message["content"]):
                return

    def check_is_complete(self, sample: str, status: str) -> None:
        """A kernel says "unknown" to a question that it cannot answer within a second."""

        def ask() -> str:
            asked = self.kc.is_complete(sample)
            reply = self.get_non_kernel_info_reply()
            assert reply is not None
            kit.validate_message(reply, "is_complete_reply", asked)
            found: str = reply["content"]["status"]
            return found if found != "unknown" else ""

        assert until(ask, f"an answer about {sample!r}") == status

"""A kernel started from its kernelspec, and one client that keeps all it hears.

`running_kernel()` starts and always ends one. `Kernel.run(code)` returns a `Run`: the
reply, and every iopub message that has the request as its parent, up to the idle.
What arrives for other parents stays in `Kernel.heard`, so that late output is seen too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty
from typing import Any, NamedTuple

import psutil
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from tests.support import docker_engine
from tests.support.waiting import DEADLINE_S, PATIENCE_S, until

Message = dict[str, Any]

# The tests are about ours. Another name shows what the reference does with the same tests.
KERNEL_NAME = os.environ.get("SANDBOX_TEST_KERNEL", "sandbox-python")
IS_OURS = KERNEL_NAME.startswith("sandbox-")


class Run(NamedTuple):
    """What one execute request brought: its reply, and its iopub messages in order."""

    reply: Message
    messages: list[Message]

    @property
    def content(self) -> dict[str, Any]:
        return self.reply["content"]

    @property
    def status(self) -> str:
        return self.content["status"]

    @property
    def types(self) -> list[str]:
        return [message["msg_type"] for message in self.messages]

    @property
    def stdout(self) -> str:
        return self._text("stdout")

    @property
    def stderr(self) -> str:
        return self._text("stderr")

    @property
    def states(self) -> list[str]:
        return [content["execution_state"] for content in self.contents("status")]

    @property
    def result(self) -> dict[str, Any]:
        """The bundle of the last expression's value."""
        return self._only("execute_result")["data"]

    @property
    def displays(self) -> list[dict[str, Any]]:
        return [content["data"] for content in self.contents("display_data")]

    @property
    def error(self) -> dict[str, Any]:
        """The one error: name, value and traceback."""
        return self._only("error")

    def contents(self, kind: str) -> list[dict[str, Any]]:
        return [message["content"] for message in self.messages if message["msg_type"] == kind]

    def _only(self, kind: str) -> dict[str, Any]:
        contents = self.contents(kind)
        if len(contents) != 1:
            heard = [(m["msg_type"], str(m["content"])[:500]) for m in self.messages]
            raise AssertionError(f"{len(contents)} messages {kind!r}, not 1, of {heard}.")
        return contents[0]

    def _text(self, name: str) -> str:
        return "".join(c["text"] for c in self.contents("stream") if c["name"] == name)


class Client:
    """One client of a kernel. Keeps what it has heard on iopub in `heard`, in order."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self.raw = client
        self.heard: list[Message] = []
        self._replies: list[Message] = []

    # -- hearing

    def hear(self, timeout_s: float) -> Message | None:
        """The next iopub message, also kept in `heard`; None when there is none in time."""
        try:
            message = self.raw.get_iopub_msg(timeout=timeout_s)
        except Empty:
            return None
        self.heard.append(message)
        return message

    def wait_for(
        self, wanted: Callable[[Message], bool], what: str, *, timeout_s: float = DEADLINE_S
    ) -> Message:
        """The first iopub message, heard before or to come, that is `wanted`."""
        for message in self.heard:
            if wanted(message):
                return message
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            message = self.hear(0.2)
            if message is not None and wanted(message):
                return message
        lately = [(m["msg_type"], m["content"]) for m in self.heard[-8:]]
        raise AssertionError(f"No {what} within {timeout_s:g} s; heard last: {lately}.")

    def wait_for_state(self, message_id: str, state: str, **options: Any) -> Message:
        """The status `state` of the request `message_id`."""

        def wanted(message: Message) -> bool:
            return (
                message["msg_type"] == "status"
                and message["parent_header"].get("msg_id") == message_id
                and message["content"]["execution_state"] == state
            )

        return self.wait_for(wanted, f"{state} of request {message_id}", **options)

    def wait_for_text(self, text: str, **options: Any) -> Message:
        """The stream message that holds `text`."""
        return self.wait_for(
            lambda m: m["msg_type"] == "stream" and text in m["content"]["text"],
            f"stream with {text!r}",
            **options,
        )

    def wait_for_reply(
        self, message_id: str, *, channel: str = "shell", timeout_s: float = DEADLINE_S
    ) -> Message:
        """The reply to request `message_id`; other replies are kept for who asks next."""
        end = time.monotonic() + timeout_s
        while True:
            for message in self._replies:
                if message["parent_header"].get("msg_id") == message_id:
                    self._replies.remove(message)
                    return message
            if time.monotonic() > end:
                raise AssertionError(f"No reply to {message_id} on {channel} in {timeout_s:g} s.")
            get = self.raw.get_shell_msg if channel == "shell" else self.raw.get_control_msg
            with contextlib.suppress(Empty):
                self._replies.append(get(timeout=0.2))

    def about(self, message_id: str) -> list[Message]:
        """What was heard so far for the request `message_id`."""
        return [m for m in self.heard if m["parent_header"].get("msg_id") == message_id]

    # -- asking

    def run(self, code: str, *, timeout_s: float = DEADLINE_S, **options: Any) -> Run:
        """Execute `code`, wait for the reply and for idle."""
        options.setdefault("allow_stdin", False)
        return self.finish(self.raw.execute(code, **options), timeout_s=timeout_s)

    def finish(self, message_id: str, *, timeout_s: float = DEADLINE_S) -> Run:
        """Wait for the reply and the idle of the request `message_id`."""
        reply = self.wait_for_reply(message_id, timeout_s=timeout_s)
        self.wait_for_state(message_id, "idle", timeout_s=timeout_s)
        return Run(reply, self.about(message_id))

    def ask(self, kind: str, content: dict[str, Any], *, channel: str = "shell") -> str:
        """Send a request of any kind; returns its message id."""
        message = self.raw.session.msg(kind, content)
        sender = self.raw.shell_channel if channel == "shell" else self.raw.control_channel
        sender.send(message)
        return message["header"]["msg_id"]

    def request(self, kind: str, content: dict[str, Any], *, channel: str = "shell") -> Message:
        """Send a request of any kind and wait for its reply."""
        return self.wait_for_reply(self.ask(kind, content, channel=channel), channel=channel)

    def start_running(self, code: str, **options: Any) -> str:
        """Execute `code` and return its message id as soon as the kernel says busy."""
        options.setdefault("allow_stdin", False)
        message_id = self.raw.execute(code, **options)
        self.wait_for_state(message_id, "busy")
        return message_id

    def wait_until_ready(self, timeout_s: float = DEADLINE_S) -> None:
        self.raw.wait_for_ready(timeout=timeout_s)

    def stop(self) -> None:
        self.raw.stop_channels()


class Kernel(Client):
    """A kernel process, its manager, and its first client."""

    def __init__(self, manager: KernelManager) -> None:
        self.manager = manager
        super().__init__(_connected(manager))

    @property
    def pid(self) -> int:
        return self.manager.provisioner.pid

    @property
    def connection_info(self) -> dict[str, Any]:
        return self.manager.get_connection_info()

    def is_responsive(self) -> bool:
        """Whether it serves the next request soon: nothing runs, nothing is queued."""
        if not self.manager.is_alive():
            return False
        with contextlib.suppress(AssertionError):
            self.wait_for_reply(self.ask("kernel_info_request", {}), timeout_s=10)
            return True
        return False

    def interrupt(self) -> None:
        self.manager.interrupt_kernel()

    @contextlib.contextmanager
    def second_client(self) -> Iterator[Client]:
        """Another client, with its own session id, on the same kernel."""
        raw = BlockingKernelClient()
        # Not the manager's factory: its clients share one session, thus one identity.
        raw.load_connection_info(self.connection_info)
        # A busy machine is not a dead kernel.
        raw.hb_channel.time_to_dead = DEADLINE_S
        raw.start_channels()
        client = Client(raw)
        try:
            client.wait_until_ready()
            yield client
        finally:
            client.stop()


@contextlib.contextmanager
def running_kernel(
    name: str = KERNEL_NAME,
    *,
    backend: str = "auto",
    env: dict[str, str] | None = None,
    cwd: str | Path | None = None,
    **manager_options: Any,
) -> Iterator[Kernel]:
    """A kernel started from kernelspec `name`; it has ended when the block has.

    Args:
        backend: what isolates it.
        env: added to this process's environment.
        manager_options: for `KernelManager`, such as `transport="ipc"`.
    """
    manager = KernelManager(kernel_name=name, **manager_options)
    manager.start_kernel(env=environment(backend, env), cwd=str(cwd or os.getcwd()))
    family = Family(manager.provisioner.pid)
    try:
        kernel = Kernel(manager)
        kernel.wait_until_ready()
        family.note()
        yield kernel
    finally:
        if manager.has_kernel:  # another process since, when it was restarted
            family.add(manager.provisioner.pid)
        family.note()
        with contextlib.suppress(UnboundLocalError):
            kernel.stop()
        if manager.has_kernel:
            manager.shutdown_kernel()
        family.end()
    if backend == "docker":
        owners = family.pids
        until(lambda: not docker_engine.containers_of(*owners), "the end of its containers")


def environment(backend: str, env: dict[str, str] | None = None) -> dict[str, str]:
    """For a kernel on `backend`: this process's environment and `env`."""
    # "auto" is said by saying nothing: so the reference kernel runs with the same tests.
    chosen = {} if backend == "auto" else {"SANDBOX_KERNEL_BACKEND": backend}
    # On a machine that stands still for a while, a runner that obeys would be killed.
    patient = {"SANDBOX_KERNEL_INTERRUPT_GRACE": f"{PATIENCE_S:g}s"}
    return {**os.environ, **patient, **chosen, **(env or {})}


class Family:
    """A process and all it ever started, as far as they were seen by `note`."""

    def __init__(self, pid: int) -> None:
        self._members: set[psutil.Process] = set()
        self.add(pid)

    def add(self, pid: int) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self._members.add(psutil.Process(pid))

    @property
    def pids(self) -> set[int]:
        """The numbers of all that were seen."""
        return {member.pid for member in self._members}

    def note(self) -> set[psutil.Process]:
        """Look again at who is there; returns everyone seen so far."""
        for member in list(self._members):
            with contextlib.suppress(psutil.NoSuchProcess):
                self._members.update(member.children(recursive=True))
        return self._members

    def alive(self) -> list[str]:
        """A line for each member that still runs. A zombie has ended."""
        lines = []
        for member in self._members:
            with contextlib.suppress(psutil.NoSuchProcess):
                # is_running compares the start time, so a reused id is no survivor.
                if member.is_running() and member.status() != psutil.STATUS_ZOMBIE:
                    lines.append(f"{member.pid} {' '.join(member.cmdline())[:200]}")
        return lines

    def end(self) -> None:
        """Kill who is left."""
        for member in self._members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(signal.SIGKILL)


def _connected(manager: KernelManager) -> BlockingKernelClient:
    client = manager.client()
    client.start_channels()
    return client

"""The native kernel as a process: its connection file, its start, its output, its end.

Rule 1: it starts before the bridge imports anything that costs: its own start is what a
first cell waits for.
Rule 2: it is in our process group, so whoever signals or kills that reaches both.
Rule 3: sockets, key and file are in a directory of its own that nobody else may enter, and
are gone as soon as both sides are connected. Kernels that know TCP only have ports of the
sandbox's own loopback; the key is what keeps a cell from speaking for them.
"""

import os
import signal
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional, Tuple, Union

    from .arguments import Command

# Shorter than a socket's path may be (107 bytes). The second: where /tmp is full or missing.
_PLACES = ("/tmp", "/dev/shm")
CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
_LOOPBACK = "127.0.0.1"
_READ_BYTES = 64 * 1024


class Directory:
    """Where the connection file and the sockets are, for as long as they are needed."""

    def __init__(self, has_tcp: bool = False) -> None:
        """Raises `OSError` when there is no place for it."""
        self.path = _make_directory()
        self._ports = _free_ports(len(CHANNELS)) if has_tcp else []
        self.key = os.urandom(32).hex()
        self.connection_file = os.path.join(self.path, "connection.json")
        self._write(self.connection_file, self._connection())

    def address(self, channel: str) -> "Union[str, Tuple[str, int]]":
        """Where a channel's socket will be: a path, or host and port."""
        index = CHANNELS.index(channel)
        if self._ports:
            return _LOOPBACK, self._ports[index]
        return "%s/s-%d" % (self.path, index + 1)

    def _connection(self) -> str:
        # Jupyter joins `ip` and a port by a dash where the transport is ipc.
        numbers = self._ports or range(1, len(CHANNELS) + 1)
        ports = ", ".join('"%s_port": %d' % pair for pair in zip(CHANNELS, numbers))  # noqa: B905
        transport = ("tcp", _LOOPBACK) if self._ports else ("ipc", self.path + "/s")
        return (
            '{"transport": "%s", "ip": "%s", %s, "key": "%s", '
            '"signature_scheme": "hmac-sha256", "kernel_name": ""}' % (*transport, ports, self.key)
        )

    def _write(self, path: str, text: str) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="ascii") as file:
            file.write(text)

    def remove(self) -> None:
        """Once connected nobody needs a name: a second client could only be a cell's."""
        with suppress(OSError):
            for name in os.listdir(self.path):
                with suppress(OSError):
                    os.unlink(os.path.join(self.path, name))
            os.rmdir(self.path)


def _make_directory() -> str:
    problem: Optional[OSError] = None
    for place in _PLACES:
        path = "%s/.kernel-%s" % (place, os.urandom(8).hex())
        try:
            os.mkdir(path, 0o700)
        except OSError as error:
            problem = error
        else:
            return path
    assert problem is not None
    raise problem


def _free_ports(count: int) -> "List[int]":
    """Ports that nobody has now. A cell could take one in time: then the kernel fails."""
    import socket

    held = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    try:
        for one in held:
            one.bind((_LOOPBACK, 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


class KernelProcess:
    """One kernel, started by `start`."""

    def __init__(self, pid: int, stdout: int, stderr: int) -> None:
        self.pid = pid
        self.stdout, self.stderr = stdout, stderr
        self.status: Optional[int] = None  # as `waitpid` has it, once it is dead
        self._is_paused = False

    def reap(self) -> bool:
        """Whether it is dead."""
        if self.status is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else's now; nothing more will be heard of it
                pid, status = self.pid, 0
            if pid:
                self.status = status
        return self.status is not None

    def pause(self) -> None:
        """Stop it while we cannot keep up: its own queue would drop messages instead."""
        if not self._is_paused and self.status is None:
            self._is_paused = True
            self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """The twin of `pause`."""
        if self._is_paused:
            self._is_paused = False
            self._signal(signal.SIGCONT)

    def kill(self) -> None:
        if self.status is None:
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with suppress(OSError):
            os.kill(self.pid, number)

    def read(self, fd: int) -> bytes:
        """What its descriptor 1 or 2 brought; b"" for nothing now, or ever again."""
        try:
            return os.read(fd, _READ_BYTES)
        except OSError:
            return b""

    def die_alike(self) -> None:
        """End this process as the kernel ended, so that the supervisor reports that."""
        status = self.status or 0
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            with suppress(OSError, ValueError):  # SIGKILL has no handler to reset
                signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1)


def start(command: "Command", connection_file: str) -> KernelProcess:
    """Start the kernel. Raises `OSError`: no such program, or no more processes."""
    environment = dict(os.environ, **command.environment)
    argv = [item.replace("{connection_file}", connection_file) for item in command.argv]
    stdout, stderr = _pipe(), _pipe()
    # What is ignored when a program starts stays ignored; our own handler does not.
    if command.is_interrupted_by_message:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        pid = _spawn(argv, environment, (stdout[1], stderr[1]), command.is_interrupted_by_message)
    finally:
        if command.is_interrupted_by_message:
            signal.signal(signal.SIGINT, before)
        os.close(stdout[1])
        os.close(stderr[1])
    return KernelProcess(pid, stdout[0], stderr[0])


def _spawn(
    argv: "List[str]", environment: "Dict[str, str]", output: "Tuple[int, int]", is_deaf: bool
) -> int:
    # Ours are close-on-exec; 0 is /dev/null already.
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(output, 1)]
    restored = [signal.SIGPIPE, signal.SIGXFSZ] + ([] if is_deaf else [signal.SIGINT])
    return os.posix_spawnp(argv[0], argv, environment, file_actions=actions, setsigdef=restored)


def _pipe() -> "Tuple[int, int]":
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    return read_fd, write_fd

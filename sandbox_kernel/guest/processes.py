"""Starting, signalling and reaping: all that touches processes.

Rule 1: a runner starts with descriptors 0, 1, 2 and its two sockets, in a session of its
own, with its limits set before its first instruction.
Rule 2: `kill(-1)` happens only as the first process of a PID namespace. Anywhere else it
would be everything on the machine.
Rule 3: no `subprocess`, `socket` or `signal` on the way to the first runner: their imports
cost more than starting it.
"""

from __future__ import annotations

import _socket
import os
import resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Collection

    from sandbox_kernel.guest.configuration import Configuration
else:
    import _signal as signal

# How often a fork bomb is swept that only part of the sandbox dies for.
_KILL_ROUNDS = 10
# After an exec that failed; the reason is in the error pipe.
_EXEC_FAILED = 127


class Runner:
    """A runner's process and our ends of what joins us to it."""

    def __init__(
        self,
        generation: int,
        pid: int,
        requests: _socket.socket,
        inputs: _socket.socket,
        error_fd: int,
        chatter_fd: int,
    ) -> None:
        self.generation = generation
        self.pid = pid
        self.requests = requests
        self.inputs = inputs
        self._error_fd = error_fd
        # What it writes before its first cell. Whoever reads it closes it.
        self.chatter_fd = chatter_fd

    def signal(self, number: int) -> None:
        """Signal the runner's process group: what it started, unless that left the group."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            _signal_process(self.pid, number)  # it has not made its group yet
        except PermissionError:
            pass  # a setuid child; it dies with the sandbox

    def kill_group(self) -> None:
        """Kill what a runner that is dead and reaped has left in its group."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return

    def read_exec_error(self) -> str:
        """Why the exec failed; "" when it didn't, or hasn't yet."""
        try:
            return os.read(self._error_fd, 4096).decode("utf-8", "replace")
        except OSError:
            return ""

    def close(self) -> None:
        self.requests.close()
        self.inputs.close()
        os.close(self._error_fd)


def spawn(configuration: Configuration, generation: int) -> Runner:
    """Start a runner and return at once; a failing exec shows when it is reaped.

    Raises:
        OSError: there can be no more processes.
    """
    ours, theirs = _socket.socketpair()
    our_inputs, their_inputs = _socket.socketpair()
    error_read, error_write = os.pipe()
    chatter_read, chatter_write = os.pipe()
    try:
        pid = os.fork()
    except OSError:  # no more processes; the sockets close themselves
        for fd in (error_read, error_write, chatter_read, chatter_write):
            os.close(fd)
        raise
    if pid == 0:
        _become_runner(
            configuration, theirs.fileno(), their_inputs.fileno(), chatter_write, error_write
        )
    for fd in (error_write, chatter_write):
        os.close(fd)
    theirs.close()
    their_inputs.close()
    ours.setblocking(False)
    our_inputs.setblocking(False)
    for fd in (error_read, chatter_read):
        os.set_blocking(fd, False)
    return Runner(generation, pid, ours, our_inputs, error_read, chatter_read)


def _become_runner(
    configuration: Configuration, requests: int, inputs: int, output: int, errors: int
) -> None:
    """In the child: set everything up and exec. Never returns."""
    try:
        os.setsid()
        os.dup2(output, 1)
        os.dup2(output, 2)
        _set_limits(configuration)
        os.chdir(configuration.workspace)
        environment = dict(os.environ, **configuration.environment)
        # For engines that plan with memory: where a guest can't see its limit, it is told.
        environment["SANDBOX_MEMORY_BYTES"] = str(configuration.limits["memory_bytes"])
        for name, fd in (("SANDBOX_RUNNER_FD", requests), ("SANDBOX_INPUT_FD", inputs)):
            os.set_inheritable(fd, True)
            environment[name] = str(fd)
        _default_signals()
        argv = configuration.argv
        if "/" in argv[0]:
            os.execve(argv[0], argv, environment)
        os.execvpe(argv[0], argv, environment)
    except BaseException as error:
        text = "%s: %s" % (configuration.argv[0], error)
        os.write(errors, text.encode("utf-8", "backslashreplace")[:4096])
    finally:
        os._exit(_EXEC_FAILED)


def _set_limits(configuration: Configuration) -> None:
    limits = configuration.limits
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, limits["open_files"])
    _lower(resource.RLIMIT_NPROC, limits["processes"])
    if configuration.watch_memory:
        _lower(resource.RLIMIT_DATA, limits["memory_bytes"])


def _lower(what: int, limit: int) -> None:
    hard = resource.getrlimit(what)[1]
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(what, (limit, limit))


def _default_signals() -> None:
    """Undo what this process or Python ignores: an exec'd program would inherit it."""
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)


def ignore_interrupts() -> None:
    """SIGINT is for the runner. Every other signal keeps its default, which the first
    process of a PID namespace doesn't get: the guest cannot end it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def watch_children(wakeup_fd: int) -> None:
    """Have a byte written to `wakeup_fd` when a child changes its state."""
    signal.set_wakeup_fd(wakeup_fd, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)


class Reaped:
    """A dead child and what it used."""

    def __init__(self, pid: int, status: int, usage: resource.struct_rusage) -> None:
        self.pid = pid
        self.exit_code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        self.signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        self.cpu_s = usage.ru_utime + usage.ru_stime
        self.peak_memory_bytes = usage.ru_maxrss * 1024


def reap() -> tuple[list[Reaped], bool]:
    """Collect the dead: (they, whether any child is left). Orphans come to the first process."""
    dead: list[Reaped] = []
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return dead, False
        if pid == 0:
            return dead, True
        dead.append(Reaped(pid, status, usage))


def is_init() -> bool:
    """Whether this is the first process of a PID namespace, and /proc shows that one."""
    if os.getpid() != 1:
        return False
    try:
        return os.readlink("/proc/self") == "1"
    except OSError:
        return False


def kill_all(runner: Runner | None, spared: Collection[int] = ()) -> None:
    """Kill every other process of the sandbox; as no first process, the runner's group.

    Args:
        spared: sessions (the pids of their leaders) that live on.
    """
    if os.getpid() == 1 and not spared:
        _signal_process(-1, signal.SIGKILL)
        return
    if runner is not None:
        runner.signal(signal.SIGKILL)
    if is_init():
        _kill_sessions(lambda session: session not in spared)


def kill_session(runner: Runner) -> None:
    """Kill the runner and all of its session: a shell's jobs have groups of their own."""
    runner.signal(signal.SIGKILL)
    _kill_sessions(lambda session: session == runner.pid)


def _kill_sessions(is_doomed: Callable[[int], bool]) -> None:
    """Kill by session; who forks meanwhile is found in the next round, if that ends at all.

    A session is left by founding one, which nobody spares, and none can be joined.
    """
    from usage import living_sessions  # type: ignore[import-not-found]  # dear, and rare

    for _ in range(_KILL_ROUNDS):
        doomed = [pid for pid, session in living_sessions() if is_doomed(session)]
        for pid in doomed:
            _signal_process(pid, signal.SIGKILL)
        if not doomed:
            return


def raise_oom_score(pid: int) -> None:
    """Let the kernel's own out-of-memory killer take the runner before the supervisor."""
    try:
        fd = os.open("/proc/%d/oom_score_adj" % pid, os.O_WRONLY)
    except OSError:
        return
    try:
        os.write(fd, b"500")
    except OSError:
        pass
    finally:
        os.close(fd)


def _signal_process(pid: int, number: int) -> None:
    # No `contextlib` this early: it costs more than it saves.
    try:  # noqa: SIM105
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass

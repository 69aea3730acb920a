"""Puts a runner together: its two sockets, its streams, a shell, and the server.

The supervisor names the sockets' descriptors in the environment; they are removed from it
before user code can see them. SANDBOX_RUNNER_SHELL=plain does without IPython.
"""

import builtins
import faulthandler
import gc
import os
import sys

from ...framing import Kind
from .base_shell import Output, Shell, Tools
from .cells import Cells
from .channel import Channel
from .comms import Comms
from .event_loop import EventLoop
from .imports import AfterImport
from .interrupts import Interrupts
from .pictures import Pictures
from .quick_imports import import_traitlets
from .server import Server
from .shell_commands import flush_before_fork_exec, flush_before_processes
from .stdin import Input, Stdin
from .streams import Sink, Stream


def main() -> None:
    """Serve until the supervisor closes its end, then end the process."""
    interrupts = Interrupts()
    interrupts.install()
    tools = _make_tools(interrupts)
    _replace_streams(tools)
    _prepare_forks(tools, interrupts)
    watcher = AfterImport()
    shell = _make_shell(tools)
    comms = Comms(Output(tools))
    watcher.watch("comm", comms.patch)
    watcher.watch("getpass", tools.input.patch_getpass)
    watcher.watch("_posixsubprocess", lambda: flush_before_fork_exec(tools.sink))
    watcher.watch("asyncio", tools.loop.asyncio_imported)
    watcher.watch("matplotlib", shell.use_figures)
    watcher.watch("matplotlib.backend_bases", tools.pictures.watch)
    watcher.install()
    server = Server(tools, shell, comms, interrupts)
    tools.channel.send(Kind.RUNNER_READY, 0, shell.info())
    # What exists now lives as long as the process: no collection needs to look at it.
    gc.freeze()
    gc.enable()
    server.serve()
    # Threads of user code may run for ever, and nobody is left to see what they do.
    os._exit(0)


def _make_tools(interrupts: Interrupts) -> Tools:
    cells = Cells()
    cells.stamp_threads()
    channel = Channel(int(os.environ.pop("SANDBOX_RUNNER_FD")), interrupts)
    os.set_inheritable(channel.descriptor, False)
    sink = Sink(channel, cells, interrupts)
    input_descriptor = int(os.environ.pop("SANDBOX_INPUT_FD"))
    os.set_inheritable(input_descriptor, False)
    return Tools(
        channel=channel,
        cells=cells,
        sink=sink,
        loop=EventLoop(channel.descriptor, interrupts),
        input=Input(input_descriptor, channel, sink, cells, interrupts),
        stdout=Stream(sink, Kind.STDOUT),
        stderr=Stream(sink, Kind.STDERR),
        pictures=Pictures(os.getcwd()),
        interrupts=interrupts,
    )


def _replace_streams(tools: Tools) -> None:
    sys.stdout = sys.__stdout__ = tools.stdout  # type: ignore[misc, assignment]
    sys.stderr = sys.__stderr__ = tools.stderr  # type: ignore[misc, assignment]
    sys.stdin = sys.__stdin__ = Stdin(tools.input)  # type: ignore[misc, assignment]
    builtins.input = tools.input.input
    sys.argv = [""]
    # A crash in C says on descriptor 2 where in the user's program it was.
    faulthandler.enable(file=2)


def _prepare_forks(tools: Tools, interrupts: Interrupts) -> None:
    channel, sink = tools.channel, tools.sink

    def before() -> None:
        sink.before_fork()
        channel.before_fork()

    def in_parent() -> None:
        channel.after_fork_in_parent()
        sink.after_fork_in_parent()

    def in_child() -> None:
        channel.after_fork_in_child()
        sink.after_fork_in_child()
        interrupts.after_fork()

    flush_before_processes(sink)
    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)


def _make_shell(tools: Tools) -> Shell:
    if os.environ.pop("SANDBOX_RUNNER_SHELL", "") != "plain":
        try:
            import_traitlets()
            from .ipython_shell import IPythonShell

            return IPythonShell(tools)
        except ImportError:
            pass
    from .plain_shell import PlainShell

    return PlainShell(tools)

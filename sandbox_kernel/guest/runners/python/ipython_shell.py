"""Cells run by IPython, which also gives magics, completion, inspection and rich reprs.

IPython is told to leave out what a sandbox has no use for: a profile folder, a history
data base (the host keeps the history), start-up files, payloads but the pager's.
"""

import os
import sys
import warnings
from typing import Any, Coroutine, Dict, Optional

from IPython.core import release
from IPython.core.async_helpers import _asyncio_runner
from IPython.core.error import StdinNotImplementedError, UsageError
from IPython.core.history import HistoryManager
from IPython.core.interactiveshell import InteractiveShell, InteractiveShellABC
from traitlets import Any as AnyTrait
from traitlets import Bool, Type, default

from .base_shell import Execution, Json, Output, Shell, Tools
from .failures import describe, drop_our_frames, format_plain, has_group, is_cancellation
from .ipython_kernel import KernelFace, announce_notebook
from .ipython_outputs import Exiter, SandboxDisplayHook, SandboxDisplayPublisher
from .ipython_shortcuts import LazyCompleter, QuickCompiler, QuickTransformers
from .shell_commands import run_command

_CODE_WITH_AWAIT = ("await", "async ")
_SCREEN_TOOLKITS = frozenset(
    ("tk", "qt", "qt4", "qt5", "qt6", "gtk", "gtk3", "gtk4", "wx", "osx", "macosx", "pyglet")
)


class ZMQInteractiveShell(LazyCompleter):
    """IPython's shell, with its outputs as frames.

    It has ipykernel's name: rich, pandas and others know a notebook by that.
    """

    displayhook_class = Type(SandboxDisplayHook)
    compiler_class = Type(QuickCompiler)
    display_pub_class = Type(SandboxDisplayPublisher)
    autoindent = Bool(False)
    exiter = AnyTrait()
    # Widget libraries look here for the kernel that a notebook has.
    kernel = AnyTrait(None)
    output: Any = None
    loop: Any = None
    tools: Any = None
    failure: Optional[Json] = None
    has_display_failed = False
    is_stored = True
    # `db` is made when it is first used, with the profile folder that it needs.
    _has_lazy_db = isinstance(getattr(InteractiveShell, "db", None), property)

    @default("exiter")
    def _default_exiter(self) -> Exiter:
        return Exiter(self)

    def init_ipython_dir(self, ipython_dir: Any) -> None:
        """Not before it is needed: see `db`."""
        if not self._has_lazy_db:
            super().init_ipython_dir(ipython_dir)

    def init_profile_dir(self, profile_dir: Any) -> None:
        """Not before it is needed: see `db`."""
        if not self._has_lazy_db:
            super().init_profile_dir(profile_dir)

    @property
    def db(self) -> Any:
        """What `%store` and `%bookmark` keep."""
        if self._has_lazy_db and self.profile_dir is None:
            super().init_ipython_dir(None)
            super().init_profile_dir(None)
        return super().db if self._has_lazy_db else self.__dict__["db"]

    @db.setter
    def db(self, value: Any) -> None:
        if self._has_lazy_db:
            InteractiveShell.db.fset(self, value)
        else:
            self.__dict__["db"] = value

    def init_history(self) -> None:
        """`In`, `Out`, `_i` and `%history`, in memory."""
        self.history_manager = HistoryManager(
            shell=self, parent=self, enabled=False, hist_file=":memory:"
        )
        self.configurables.append(self.history_manager)

    def init_virtualenv(self) -> None:
        """The interpreter was chosen by the kernelspec; nothing is added to it."""

    def init_environment(self) -> None:
        """Colours where programs have them, and no pagers: as ipykernel does."""
        os.environ.update(
            TERM="xterm-color",
            CLICOLOR="1",
            FORCE_COLOR="1",
            CLICOLOR_FORCE="1",
            PAGER="cat",
            GIT_PAGER="cat",
        )
        os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")

    def init_hooks(self) -> None:
        """`name?` goes to the reply as a page."""
        super().init_hooks()
        self.set_hook("show_in_pager", _page_to_payload, 99)

    def init_magics(self) -> None:
        """`%store` is there as in a notebook, imported when it is used."""
        super().init_magics()
        if hasattr(self.magics_manager, "register_lazy"):
            self.magics_manager.register_lazy("store", "IPython.extensions.storemagic")

    def init_traceback_handlers(self, custom_exceptions: Any) -> None:
        """IPython's, which read sources: where that fails, plain ones still tell the error."""
        super().init_traceback_handlers(custom_exceptions)
        formatted = self.InteractiveTB.structured_traceback

        def guarded(kind: Any, value: Any, traceback: Any, *args: Any, **options: Any) -> Any:
            try:
                return formatted(kind, value, traceback, *args, **options)
            except Exception:  # IPython would print this failure, and the client see none
                return format_plain(kind, value, traceback)

        self.InteractiveTB.structured_traceback = guarded

    def _showtraceback(self, etype: Any, evalue: Any, stb: Any) -> None:
        if self.displayhook.is_showing:
            self.has_display_failed = True
        self.failure = self.output.error(etype.__name__, describe(evalue), list(stb))

    def showtraceback(self, exc_tuple: Any = None, *args: Any, **options: Any) -> None:
        """IPython's; a second SIGINT while it writes must not take the error away."""
        with self.tools.interrupts.ignored():
            self._show_error(exc_tuple, *args, **options)

    def _show_error(self, exc_tuple: Any, *args: Any, **options: Any) -> None:
        """For what was cancelled by SIGINT and for groups of exceptions, too."""
        try:
            kind, value, traceback = self._get_exc_info(exc_tuple)
        except ValueError:
            kind, value, traceback = None, None, None
        drop_our_frames(traceback)
        if is_cancellation(kind) and self.loop.was_cancelled:
            interrupt = KeyboardInterrupt()
            super().showtraceback((KeyboardInterrupt, interrupt, traceback), *args, **options)
            return
        if has_group(value):
            # IPython prints these to stderr, where no client finds an error.
            self._showtraceback(kind, value, format_plain(kind, value, traceback))
            return
        super().showtraceback(exc_tuple, *args, **options)

    def show_usage_error(self, exc: Any) -> None:
        """A magic that isn't there or was called wrongly: an error as any other."""
        self._showtraceback(type(exc), exc, ["\x1b[31mUsageError\x1b[0m: %s" % exc])

    def enable_gui(self, gui: Any = None) -> None:
        """There is no screen in a sandbox."""
        if gui in _SCREEN_TOOLKITS:
            raise UsageError(
                "There is no display in the sandbox for %r. Use %%matplotlib inline." % gui
            )

    def enable_matplotlib(self, gui: Any = None) -> Any:
        """As IPython's, but refuses what needs a screen before anything is changed."""
        self.enable_gui(gui)
        return super().enable_matplotlib(gui)

    def ask_exit(self) -> None:
        """Called by old extensions: as `exit`."""
        raise SystemExit

    def set_next_input(self, s: str, replace: bool = False) -> None:
        """Cells are the user's: code in the sandbox puts nothing into them."""
        sys.stderr.write("The sandbox doesn't write into cells. The text was:\n%s\n" % s)

    def system(self, cmd: str) -> None:
        """`!cmd`: its output comes as it is written."""
        self.user_ns["_exit_code"] = code = run_command(
            self.var_expand(cmd, depth=1), self.tools.sink
        )
        if code and getattr(self, "system_raise_on_error", False):
            from subprocess import CalledProcessError

            raise CalledProcessError(code, cmd)

    system_piped = system_raw = system

    def get_parent(self) -> Json:
        """The request being answered, as ipywidgets' Output wants to know it."""
        return self.kernel.get_parent() if self.kernel is not None else {}

    def set_parent(self, _parent: Json) -> None:
        """Called by ipywidgets with what `get_parent` gave."""


InteractiveShellABC.register(ZMQInteractiveShell)


def _page_to_payload(shell: Any, text: Any, start: int = 0, *_args: Any, **_options: Any) -> None:
    data = text if isinstance(text, dict) else {"text/plain": text}
    payload = {"source": "page", "data": data, "start": max(0, start)}
    shell.payload_manager.write_payload(payload)


class IPythonShell(Shell):
    """The shell that the server talks to."""

    def __init__(self, tools: Tools) -> None:
        output = Output(tools)
        shell: Any = ZMQInteractiveShell.instance()
        self._shell = shell
        shell.output = shell.displayhook.output = shell.display_pub.output = output
        shell.loop, shell.tools = tools.loop, tools
        shell.kernel = KernelFace(shell, tools)
        announce_notebook(ZMQInteractiveShell)
        shell.config.IPKernelApp.tqdm = "a notebook"  # where older versions of tqdm look
        shell.input_transformer_manager = QuickTransformers()
        shell._has_started = True
        self._loop = tools.loop
        self._execution: Optional[Execution] = None
        self._result: Any = None
        tools.input.refusal = StdinNotImplementedError
        shell.raw_input_original = tools.input.input
        # True of a terminal only; `exit` there ends the program.
        warnings.filterwarnings("ignore", message="To exit: use 'exit', 'quit', or Ctrl-D.")

    def offer(self, names: Json) -> None:
        """Among the names that `%who` leaves out."""
        self._shell.push(names, interactive=False)

    def info(self) -> Json:
        """What RUNNER_READY says."""
        python = sys.version.replace("\n", "")
        banner = "Python %s\nIPython %s -- An enhanced Interactive Python. Type '?' for help."
        return {
            "implementation": "ipython",
            "language": "python",
            "version": sys.version.split()[0],
            "ipython": release.version,
            "tools": True,
            "banner": banner % (python, release.version),
        }

    def begin(self, execution: Execution) -> None:
        """Number it, and forget how the one before it went."""
        shell = self._shell
        self._execution, self._result = execution, None
        shell.kernel.request_id = execution.request_id
        shell.failure, shell.is_stored = None, execution.is_stored
        shell.has_display_failed = shell.displayhook.is_showing = False
        if execution.number > 0:
            shell.execution_count = execution.number
        history = shell.history_manager
        if execution.is_stored:
            # A fresh runner may go on where another one stopped: `In[n]` is cell n all the same.
            for inputs in (history.input_hist_parsed, history.input_hist_raw):
                inputs.extend([""] * (shell.execution_count - len(inputs)))

    def start(self, execution: Execution) -> Optional["Coroutine[Any, Any, Any]"]:
        """Run the cell; return a coroutine instead if it awaits something."""
        shell = self._shell
        error = None
        try:
            transformed = shell.transform_cell(execution.code)
        except Exception:
            transformed, error = execution.code, sys.exc_info()
        options = {
            "store_history": execution.is_stored,
            "silent": execution.is_silent,
            "transformed_cell": transformed,
            "preprocessing_exc_tuple": error,
        }
        coroutine = self._run(execution, options)
        if self._needs_loop(execution.code, transformed, error):
            if shell.loop_runner is _asyncio_runner:
                return coroutine
            shell.loop_runner(coroutine)  # another library's, chosen by %autoawait
            return None
        _drive(coroutine)
        return None

    def _needs_loop(self, code: str, transformed: str, error: Any) -> bool:
        # IPython compiles the cell to find out; most cells cannot need one.
        if not any(word in transformed for word in _CODE_WITH_AWAIT):
            return False
        return bool(
            self._shell.should_run_async(
                code, transformed_cell=transformed, preprocessing_exc_tuple=error
            )
        )

    async def _run(self, execution: Execution, options: Dict[str, Any]) -> None:
        events = self._shell.events
        try:
            self._result = await self._shell.run_cell_async(execution.code, **options)
        finally:
            events.trigger("post_execute")
            if not execution.is_silent:
                events.trigger("post_run_cell", self._result)

    def finish(self) -> Json:
        """The reply to the cell that ran last."""
        shell, execution, result = self._shell, self._execution, self._result
        failure = shell.failure
        error = None
        if result is not None:
            error = result.error_before_exec or result.error_in_exec
        # A failure alone is somebody else's: of `%run`, of a nested `run_cell`, of a callback.
        if error is None and not shell.has_display_failed:
            expressions = execution.expressions if execution else {}
            reply: Json = {"status": "ok", "user_expressions": shell.user_expressions(expressions)}
        else:
            reply = {"status": "error", "user_expressions": {}}
            reply.update(failure or _failure_of(error))
        return self._with_payload(reply)

    def interrupted(self, error: BaseException) -> Json:
        """`error` came where IPython doesn't catch: between the steps of a cell."""
        shell = self._shell
        if is_cancellation(type(error)) and self._loop.was_cancelled:
            error = KeyboardInterrupt()
        if shell.failure is None:
            shell.showtraceback((type(error), error, None))
        reply = {"status": "error", "user_expressions": {}}
        reply.update(shell.failure or _failure_of(error))
        return self._with_payload(reply)

    def _with_payload(self, reply: Json) -> Json:
        manager = self._shell.payload_manager
        pages = [item for item in manager.read_payload() if item.get("source") == "page"]
        manager.clear_payload()
        if pages:
            reply["payload"] = pages
        return reply

    def warm_up(self) -> None:
        """Format an error, which takes 70 ms the first time: an interrupt should not wait."""
        getattr(self._shell, "logger", None)  # imported when it is first asked for, by a cell
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            arguments = (type(error), error, error.__traceback__)
            self._shell.InteractiveTB.structured_traceback(*arguments)

    def complete(self, code: str, cursor: int) -> Json:
        """As ipykernel's, jedi's types included."""
        from IPython.core.completer import provisionalcompleter, rectify_completions

        with provisionalcompleter():
            raw = self._shell.Completer.completions(code, cursor)
            found = list(rectify_completions(code, raw))
        types = [
            {
                "start": item.start,
                "end": item.end,
                "text": item.text,
                "type": item.type,
                "signature": item.signature,
            }
            for item in found
        ]
        return {
            "status": "ok",
            "matches": [item.text for item in found],
            "cursor_start": found[0].start if found else cursor,
            "cursor_end": found[0].end if found else cursor,
            "metadata": {"_jupyter_types_experimental": types},
        }

    def inspect(self, code: str, cursor: int, detail: int) -> Json:
        """As ipykernel's."""
        from IPython.utils.tokenutil import token_at_cursor

        reply: Json = {"status": "ok", "found": False, "data": {}, "metadata": {}}
        try:
            name = token_at_cursor(code, cursor)
            data = self._shell.object_inspect_mime(name, detail_level=detail)
        except KeyError:
            return reply
        data = dict(data)
        if not getattr(self._shell, "enable_html_pager", False):
            data.pop("text/html", None)
        reply.update(found=True, data=data)
        return reply

    def is_complete(self, code: str) -> Json:
        """As ipykernel's."""
        status, indent = self._shell.input_transformer_manager.check_complete(code)
        reply: Json = {"status": status}
        if status == "incomplete":
            reply["indent"] = " " * (indent or 0)
        return reply


def _drive(coroutine: "Coroutine[Any, Any, None]") -> None:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise RuntimeError("The cell awaits something that only an event loop can give.")


def _failure_of(error: Any) -> Json:
    return {"ename": type(error).__name__, "evalue": describe(error), "traceback": []}

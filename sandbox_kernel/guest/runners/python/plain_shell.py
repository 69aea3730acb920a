"""Cells run by Python alone, for guests without IPython.

As near to a notebook as the standard library gets: top-level await, `_` and `Out`, rich
displays, figures, input, completion. No magics; a cell that uses one is told why.
"""

import ast
import builtins
import inspect
import linecache
import os
import re
import sys
import types
from typing import Any, Coroutine, Dict, List, NamedTuple, Optional

from . import plain_questions
from .base_shell import Execution, Json, Output, Shell, Tools
from .rich import Displayer, format_object

_MAGIC = re.compile(r"^\s*(%{1,2}\w+|!+\S+|\?{1,2}\w[\w.]*|\w[\w.]*\?{1,2}\s*$)", re.MULTILINE)
_FIGURES = "module://%s.figures" % (__package__ or "")
_FUTURE_FLAGS = 0
for _name in __import__("__future__").all_feature_names:
    _FUTURE_FLAGS |= getattr(__import__("__future__"), _name).compiler_flag
_HERE = os.path.dirname(os.path.abspath(__file__))


class MagicNotAvailable(SyntaxError):
    """The cell uses IPython's syntax, and there is no IPython."""


class _Step(NamedTuple):
    """A part of a cell: its statements, or the expression that ends it."""

    code: types.CodeType
    is_expression: bool


class PlainShell(Shell):
    """The shell that the server talks to."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._output = Output(tools)
        self._execution: Optional[Execution] = None
        self._failure: Optional[Json] = None
        self._flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self._inputs: List[str] = [""]
        self._outputs: Dict[int, Any] = {}
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        self._module = module
        self.namespace = module.__dict__
        self.namespace.update(
            __builtins__=builtins, In=self._inputs, Out=self._outputs, _="", __="", ___=""
        )
        self._add_builtins()

    def _add_builtins(self) -> None:
        displayer = Displayer(self._output)
        for name in ("display", "update_display", "clear_output"):
            setattr(builtins, name, getattr(displayer, name))
        builtins.exit = builtins.quit = _Exit()  # type: ignore[assignment]
        sys.displayhook = self._show_result

    def offer(self, names: Json) -> None:
        """Beside the names of the cells."""
        self.namespace.update(names)

    def use_figures(self) -> None:
        """Called after matplotlib was imported: it draws for the notebook, unless told else."""
        if "MPLBACKEND" not in os.environ:
            sys.modules["matplotlib"].rcParams["backend"] = _FIGURES

    def info(self) -> Json:
        """What RUNNER_READY says."""
        python = "Python %s" % sys.version.replace("\n", "")
        return {
            "implementation": "python",
            "language": "python",
            "version": sys.version.split()[0],
            "ipython": None,
            "tools": True,
            "banner": python + "\nIPython is not installed here: no magics.",
        }

    def begin(self, execution: Execution) -> None:
        """Number it, and forget how the one before it went."""
        self._execution, self._failure = execution, None
        if execution.is_stored:
            self._inputs.extend([""] * (execution.number - len(self._inputs)))
            self._inputs.append(execution.code)

    def start(self, execution: Execution) -> Optional["Coroutine[Any, Any, Any]"]:
        """Run the cell; return a coroutine instead if it awaits something."""
        try:
            steps = self._compile(execution)
        except BaseException as error:  # user code's failure is a result
            self._fail(error)
            return None
        if any(step.code.co_flags & inspect.CO_COROUTINE for step in steps):
            return self._run_async(steps)
        try:
            for step in steps:
                value = eval(step.code, self.namespace)
                if step.is_expression:
                    sys.displayhook(value)
        except BaseException as error:
            self._fail(error)
        return None

    async def _run_async(self, steps: List[_Step]) -> None:
        try:
            for step in steps:
                value = eval(step.code, self.namespace)
                if step.code.co_flags & inspect.CO_COROUTINE:
                    value = await value
                if step.is_expression:
                    sys.displayhook(value)
        except BaseException as error:
            self._fail(error)

    def _compile(self, execution: Execution) -> List[_Step]:
        name = "Cell In[%d]" % execution.number
        lines = [line + "\n" for line in execution.code.split("\n")]
        # No modification time: `linecache.checkcache` leaves such entries alone.
        linecache.cache[name] = (len(execution.code), None, lines, name)
        try:
            tree = self._parse(execution.code, name)
        except SyntaxError:
            _explain_magic(execution.code)
            raise
        last = tree.body[-1] if tree.body else None
        steps: List[_Step] = []
        if isinstance(last, ast.Expr) and not execution.is_silent and not _is_quiet(execution.code):
            del tree.body[-1]
            expression = ast.Expression(last.value)
            steps.append(_Step(self._compile_tree(expression, name, "eval"), True))
        if tree.body:
            steps.insert(0, _Step(self._compile_tree(tree, name, "exec"), False))
        for step in steps:
            # A `from __future__ import` holds for the cells after it.
            self._flags |= step.code.co_flags & _FUTURE_FLAGS
        return steps

    def _parse(self, code: str, name: str) -> ast.Module:
        tree = compile(code, name, "exec", self._flags | ast.PyCF_ONLY_AST, True)
        assert isinstance(tree, ast.Module)
        return tree

    def _compile_tree(self, tree: Any, name: str, mode: str) -> types.CodeType:
        made = compile(tree, name, mode, self._flags, True)
        assert isinstance(made, types.CodeType)
        return made

    def _show_result(self, value: Any) -> None:
        """What `sys.displayhook` is."""
        if value is None:
            return
        execution = self._execution
        if execution is not None and execution.is_stored:
            names = self.namespace
            names["___"], names["__"], names["_"] = names.get("__"), names.get("_"), value
            names["_%d" % execution.number] = value
            self._outputs[execution.number] = value
        self._output.result(*format_object(value))

    def _fail(self, error: BaseException) -> None:
        if type(error).__name__ == "CancelledError" and self._tools.loop.was_cancelled:
            error = KeyboardInterrupt().with_traceback(error.__traceback__)
        traceback = _users_part(error.__traceback__)
        sys.last_type, sys.last_value, sys.last_traceback = type(error), error, traceback
        lines = _format(error, traceback)
        self._failure = self._output.error(type(error).__name__, _text(error), lines)

    def finish(self) -> Json:
        """The reply to the cell that ran last; figures that it left open are shown."""
        self._show_figures()
        if self._failure is not None:
            return {"status": "error", "user_expressions": {}, **self._failure}
        expressions = self._execution.expressions if self._execution else {}
        values = {name: self._evaluate(text) for name, text in expressions.items()}
        return {"status": "ok", "user_expressions": values}

    def _show_figures(self) -> None:
        module = sys.modules.get("%s.figures" % __package__)
        if module is None:
            return
        try:
            module.show()
        except Exception as error:
            if self._failure is None:
                self._fail(error)

    def _evaluate(self, expression: str) -> Json:
        try:
            data, metadata = format_object(eval(expression, self.namespace))
        except BaseException as error:
            lines = _format(error, None)
            name, value = type(error).__name__, _text(error)
            return {"status": "error", "ename": name, "evalue": value, "traceback": lines}
        return {"status": "ok", "data": data, "metadata": metadata}

    def interrupted(self, error: BaseException) -> Json:
        """`error` came between the steps of a cell."""
        if self._failure is None:
            self._fail(error)
        return {"status": "error", "user_expressions": {}, **(self._failure or {})}

    def complete(self, code: str, cursor: int) -> Json:
        """Names and attributes, as the interactive interpreter completes them."""
        return plain_questions.complete(code, cursor, self.namespace)

    def inspect(self, code: str, cursor: int, detail: int) -> Json:
        """Signature and documentation."""
        return plain_questions.inspect_name(code, cursor, detail, self.namespace)

    def is_complete(self, code: str) -> Json:
        """As the interactive interpreter decides."""
        return plain_questions.is_complete(code, self._flags)


class _Exit:
    """`exit` and `quit`: they end the cell; the runner lives on."""

    def __call__(self, code: Any = None) -> None:
        raise SystemExit(code)

    def __repr__(self) -> str:
        return "exit() ends the cell. The kernel's own menu ends the kernel."


def _explain_magic(code: str) -> None:
    """Raise `MagicNotAvailable` if `code`, which is no Python, looks like IPython's syntax."""
    found = _MAGIC.search(code)
    if found:
        raise MagicNotAvailable(
            "%s is IPython's syntax, and IPython is not installed in the sandbox's Python. "
            "Install IPython there, or write it in Python." % found.group().strip()
        )


def _is_quiet(code: str) -> bool:
    """Whether the last expression ends with a semicolon: its value is not shown."""
    import io
    import tokenize

    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER)
    if ";" not in code:
        return False
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(code).readline))
    except (tokenize.TokenError, SyntaxError):
        return False
    meant = [token.string for token in tokens if token.type not in skipped and token.string]
    return bool(meant) and meant[-1] == ";"


def _users_part(traceback: Any) -> Any:
    """Without our own frames, which stand at its head."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_HERE):
        traceback = traceback.tb_next
    return traceback


def _format(error: BaseException, traceback: Any) -> List[str]:
    import traceback as formatter

    if isinstance(error, (SystemExit, MagicNotAvailable)):
        return ["%s: %s" % (type(error).__name__, _text(error))]
    try:
        lines = formatter.format_exception(type(error), error, traceback)
    except Exception:  # an exception whose `__str__` raises
        return ["%s: %s" % (type(error).__name__, _text(error))]
    return "".join(lines).rstrip("\n").split("\n")


def _text(error: BaseException) -> str:
    if isinstance(error, MagicNotAvailable):
        return str(error.msg)
    try:
        return str(error)
    except Exception:
        return "<%s whose text could not be made>" % type(error).__name__

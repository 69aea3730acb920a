"""Completion, inspection and is-complete from the standard library alone."""

import codeop
import inspect
import re
from contextlib import suppress
from typing import Any, Dict, List, Optional

from .base_shell import Json

_NAME_BEFORE = re.compile(r"[^\W\d][\w.]*$")
_NAME_AFTER = re.compile(r"\w*")
_INDENT = re.compile(r"[ \t]*")


def complete(code: str, cursor: int, namespace: Dict[str, Any]) -> Json:
    """What may stand at `cursor`, a number of code points."""
    import rlcompleter

    found = _NAME_BEFORE.search(code[:cursor])
    name = found.group() if found else ""
    completer = rlcompleter.Completer(namespace)
    matches: List[str] = []
    if name:
        find = completer.attr_matches if "." in name else completer.global_matches
        try:
            matches = [match.rstrip("() :") for match in find(name)]
        except Exception:  # a user's property may raise anything
            matches = []
    return {
        "status": "ok",
        "matches": sorted(set(matches)),
        "cursor_start": cursor - len(name),
        "cursor_end": cursor,
        "metadata": {},
    }


def inspect_name(code: str, cursor: int, detail: int, namespace: Dict[str, Any]) -> Json:
    """What is known about the name at `cursor`, or about the function called there."""
    reply: Json = {"status": "ok", "found": False, "data": {}, "metadata": {}}
    name = _name_at(code, cursor)
    if name is None:
        return reply
    try:
        value = _look_up(name, namespace)
    except (AttributeError, KeyError):
        return reply
    reply.update(found=True, data={"text/plain": _describe(name, value, detail)})
    return reply


def _name_at(code: str, cursor: int) -> Optional[str]:
    after = _NAME_AFTER.match(code, cursor)
    end = after.end() if after else cursor
    found = _NAME_BEFORE.search(code[:end])
    if found:
        return found.group()
    # Within a call's parentheses: the innermost function that is open here.
    depth = 0
    for position in range(cursor - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(code[position], 0)
        if depth < 0:
            found = _NAME_BEFORE.search(code[:position])
            return found.group() if found else None
    return None


def _look_up(name: str, namespace: Dict[str, Any]) -> Any:
    import builtins

    first, *rest = name.split(".")
    value = namespace[first] if first in namespace else getattr(builtins, first)
    for part in rest:
        value = getattr(value, part)
    return value


def _describe(name: str, value: Any, detail: int) -> str:
    lines = []
    try:
        lines.append("Signature: %s%s" % (name, inspect.signature(value)))
    except (TypeError, ValueError):
        lines.append("Type:      %s" % type(value).__name__)
        lines.append("Value:     %.200s" % repr(value))
    if detail:
        with suppress(OSError, TypeError):
            lines.append("Source:\n%s" % inspect.getsource(value))
    lines.append("Docstring:\n%s" % (inspect.getdoc(value) or "<no docstring>"))
    return "\n".join(lines)


def is_complete(code: str, flags: int) -> Json:
    """Whether a console should run `code` now."""
    compiler = codeop.CommandCompiler()
    compiler.compiler.flags |= flags
    try:
        made = compiler(code, "<input>", "exec")
    except (SyntaxError, OverflowError, ValueError):
        return {"status": "invalid"}
    last = code.rstrip("\n").rsplit("\n", 1)[-1]
    # A block ends with an empty line; until then more of it may come.
    if made is not None and not (last[:1] in (" ", "\t") and not code.endswith("\n")):
        return {"status": "complete"}
    found = _INDENT.match(last)
    indent = found.group() if found else ""
    return {
        "status": "incomplete",
        "indent": indent + ("    " if last.rstrip()[-1:] == ":" else ""),
    }

"""The contents of replies. Pure: values in, values out.

Rule 1: every reply that can go wrong has a `status`, and what a client reads without
        asking (`execution_count`, `matches`, `traceback`…) is always there.
Rule 2: a guest's answer is taken apart and put together again from the fields that the
        protocol names, each of its type; what it made up besides is dropped.
Rule 3: bundles pass the output policy (`admit`), and payloads are text pagers only: with
        `set_next_input` a guest would write cells.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sandbox_kernel import __version__
from sandbox_kernel.kernel.wire import PROTOCOL_VERSION, Json
from sandbox_kernel.languages import Language

Admit = Callable[[Json, Json], tuple[Json, Json]]

MAX_MATCHES = 2000
MAX_MATCH_CHARACTERS = 1000
MAX_EXPRESSIONS = 100
MAX_PAGES = 8
# Says "I can't tell" without blocking whoever types; the console waits for one second.
UNKNOWN = {"status": "unknown"}
_VERSION = r"[0-9A-Za-z.+_-]{1,40}"

# By name of the language: what front ends list in their Help menu.
_HELP = {
    "python": (
        ("Python Reference", "https://docs.python.org/3"),
        ("IPython Reference", "https://ipython.readthedocs.io/"),
    ),
    "bash": (("Bash Reference", "https://www.gnu.org/software/bash/manual/"),),
    "javascript": (
        ("JavaScript Reference", "https://developer.mozilla.org/docs/Web/JavaScript"),
        ("Node.js Reference", "https://nodejs.org/api/"),
    ),
    "typescript": (
        ("TypeScript Handbook", "https://www.typescriptlang.org/docs/"),
        ("Node.js Reference", "https://nodejs.org/api/"),
    ),
    "r": (("R Manuals", "https://cran.r-project.org/manuals.html"),),
    "ruby": (("Ruby Reference", "https://docs.ruby-lang.org/en/"),),
    "perl": (("Perl Reference", "https://perldoc.perl.org/"),),
    "php": (("PHP Manual", "https://www.php.net/manual/"),),
    "lua": (("Lua Manual", "https://www.lua.org/manual/"),),
    "sql": (("DuckDB's SQL", "https://duckdb.org/docs/sql/introduction"),),
    "deno": (("Deno Reference", "https://docs.deno.com/"),),
}


def kernel_info(language: Language, version: str, banner: str) -> Json:
    """What kernel_info_reply says. `version` may be the guest's word; it is checked."""
    is_plain = re.fullmatch(_VERSION, version) is not None
    return {
        "status": "ok",
        "protocol_version": PROTOCOL_VERSION,
        "implementation": "sandbox-kernel",
        "implementation_version": __version__,
        "language_info": {
            "name": language.jupyter_name,
            "version": version if is_plain else "",
            "mimetype": language.mimetype,
            "file_extension": language.file_extension,
            "codemirror_mode": language.codemirror_mode,
            "pygments_lexer": language.pygments_lexer,
            # nbconvert refuses a name that it has no exporter for; "script" works for all.
            "nbconvert_exporter": "python" if language.jupyter_name == "python" else "script",
        },
        "banner": banner,
        "help_links": [{"text": text, "url": url} for text, url in _help(language)],
        # Neither subshells nor a debugger: clients use what is listed here.
        "supported_features": [],
        "debugger": False,
    }


def _help(language: Language) -> tuple[tuple[str, str], ...]:
    """Of the language itself, or of the one that it is called by: ipykernel's is Python."""
    return _HELP.get(language.name) or _HELP.get(language.jupyter_name, ())


def error(name: str, value: str, traceback: list[str] | None = None) -> Json:
    """A reply that says what went wrong."""
    return {
        "status": "error",
        "ename": name,
        "evalue": value,
        "traceback": traceback if traceback is not None else [f"{name}: {value}"],
    }


def execute_reply(status: Json, count: int) -> Json:
    """`status` (ok, error or aborted) with what every execute_reply has."""
    return {"execution_count": count, "user_expressions": {}, "payload": [], **status}


def complete(answer: Json, code: str, cursor: int) -> Json:
    """What a guest says to a completion, at most what a menu can show."""
    matches = [m for m in _list(answer, "matches") if isinstance(m, str)][:MAX_MATCHES]
    start = _position(answer.get("cursor_start"), code, cursor)
    end = _position(answer.get("cursor_end"), code, cursor)
    return {
        "status": "ok",
        "matches": [match for match in matches if len(match) <= MAX_MATCH_CHARACTERS],
        "cursor_start": min(start, end),
        "cursor_end": end,
        "metadata": _completion_metadata(answer),
    }


def _completion_metadata(answer: Json) -> Json:
    """The types that JupyterLab shows beside the matches, and nothing else."""
    metadata = answer.get("metadata")
    typed = _list(metadata, "_jupyter_types_experimental") if isinstance(metadata, dict) else []
    kept = [
        {name: item[name] for name in ("start", "end", "text", "type", "signature") if name in item}
        for item in typed[:MAX_MATCHES]
        if isinstance(item, dict) and _has_small_values(item)
    ]
    return {"_jupyter_types_experimental": kept} if kept else {}


def _has_small_values(item: Json) -> bool:
    return all(
        isinstance(value, int) or (isinstance(value, str) and len(value) <= MAX_MATCH_CHARACTERS)
        for value in item.values()
    )


def inspect(answer: Json, admit: Admit) -> Json:
    """What a guest says to an inspection, through the policy."""
    data, metadata = admit(_dict(answer, "data"), _dict(answer, "metadata"))
    is_found = answer.get("found") is True and bool(data)
    return {"status": "ok", "found": is_found, "data": data, "metadata": metadata}


def is_complete(answer: Json) -> Json:
    status, indent = answer.get("status"), answer.get("indent")
    if status not in ("complete", "incomplete", "invalid"):
        return UNKNOWN
    if status == "incomplete" and isinstance(indent, str) and len(indent) <= 200:
        return {"status": status, "indent": indent if indent.isspace() else ""}
    return {"status": status}


def expressions(answer: Json, admit: Admit) -> Json:
    """The values of user_expressions, through the policy."""
    return {
        name: _expression(value, admit)
        for name, value in list(answer.items())[:MAX_EXPRESSIONS]
        if isinstance(value, dict)
    }


def _expression(value: Json, admit: Admit) -> Json:
    if value.get("status") == "ok":
        data, metadata = admit(_dict(value, "data"), _dict(value, "metadata"))
        return {"status": "ok", "data": data, "metadata": metadata}
    lines = [line for line in _list(value, "traceback") if isinstance(line, str)][:200]
    return error(str(value.get("ename"))[:200], str(value.get("evalue"))[:10_000], lines)


def pages(payload: list[Json], admit: Admit) -> list[Json]:
    """The text pagers in a payload."""
    found = []
    for item in payload[:MAX_PAGES]:
        if not isinstance(item, dict) or item.get("source") != "page":
            continue
        data, _ = admit({"text/plain": _dict(item, "data").get("text/plain")}, {})
        text = data.get("text/plain")
        if isinstance(text, str):
            start = item.get("start")
            is_line = isinstance(start, int) and 0 <= start < 10**6
            found.append(
                {
                    "source": "page",
                    "data": {"text/plain": text},
                    "start": start if is_line else 0,
                }
            )
    return found


def debug_refusal(wanted: Json) -> Json:
    """The debug adapter protocol's way to say no."""
    return {
        "type": "response",
        "request_seq": wanted.get("seq", 0),
        "seq": 0,
        "success": False,
        "command": wanted.get("command", ""),
        "message": "This kernel has no debugger.",
        "body": {},
    }


def _position(value: Any, code: str, otherwise: int) -> int:
    is_position = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= len(code)
    return value if is_position else otherwise


def _list(answer: Json, key: str) -> list[Any]:
    value = answer.get(key)
    return value if isinstance(value, list) else []


def _dict(answer: Json, key: str) -> Json:
    value = answer.get(key)
    return value if isinstance(value, dict) else {}

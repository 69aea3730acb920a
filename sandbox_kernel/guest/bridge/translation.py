"""What the kernel's messages are in our frames, and our requests in Jupyter's. Pure.

Rule 1: a frame has what its reader on the host insists on: texts are texts, objects are
objects. What cannot be brought to that is left out, because there it would end the sandbox.
Rule 2: what a kernel says of numbering, history and execution is the host's to say.

To translate another message: a function here and a row in `_OUTPUTS`.
"""

from json import dumps
from typing import Any, Callable, Dict, List, Optional, Tuple

from ..framing import Kind
from .wire import Json, Message

_MAX_NAME = 4096
_MAX_TEXT = 1_000_000
_MAX_TRACEBACK = 5000
_MAX_MATCHES = 10_000
_MAX_BUFFERS = 1000
_COMMS = {"comm_open": "open", "comm_msg": "msg", "comm_close": "close"}
STREAMS = {"stdout": Kind.STDOUT, "stderr": Kind.STDERR}

Output = Tuple[int, Json, bytes]


# --- what a cell shows ----------------------------------------------------------------


def stream(message: Message) -> Optional[Tuple[int, bytes]]:
    """(kind, text) of a `stream` message."""
    kind = STREAMS.get(str(message.content.get("name")))
    text = message.content.get("text")
    if isinstance(text, list):  # as notebooks store it; R sends so what has several lines
        text = "\n".join(map(str, text))
    if kind is None or not isinstance(text, str):
        return None
    return kind, text.encode("utf-8", "backslashreplace")


def output(message: Message) -> Optional[Output]:
    """(kind, meta, data) of the frame for an iopub message; None for what has none."""
    translate = _OUTPUTS.get(message.kind)
    return translate(message) if translate else None


def _display(message: Message) -> Optional[Output]:
    content = message.content
    transient = _object(content.get("transient"))
    display_id = transient.get("display_id")
    meta = {
        "data": _object(content.get("data")),
        "metadata": _object(content.get("metadata")),
        "transient": {"display_id": display_id} if isinstance(display_id, str) else {},
    }
    is_update = message.kind == "update_display_data"
    return (Kind.UPDATE_DISPLAY if is_update else Kind.DISPLAY), meta, b""


def _result(message: Message) -> Optional[Output]:
    content = message.content
    meta = {
        "data": _object(content.get("data")),
        "metadata": _object(content.get("metadata")),
    }
    return Kind.RESULT, meta, b""


def _clear(message: Message) -> Optional[Output]:
    return Kind.CLEAR_OUTPUT, {"wait": message.content.get("wait") is True}, b""


def _error(message: Message) -> Optional[Output]:
    return Kind.ERROR, failure_of(message.content), b""


def _comm(message: Message) -> Optional[Output]:
    content, buffers = message.content, message.buffers
    if len(buffers) > _MAX_BUFFERS:
        return None
    meta = {
        "action": _COMMS[message.kind],
        "comm_id": _text(content.get("comm_id"), _MAX_NAME),
        "target_name": _text(content.get("target_name"), _MAX_NAME),
        "data": _object(content.get("data")),
        "metadata": message.metadata,
        "buffers": [len(buffer) for buffer in buffers],
    }
    return Kind.COMM_OUT, meta, b"".join(buffers)


_OUTPUTS: Dict[str, Callable[[Message], Optional[Output]]] = {
    "display_data": _display,
    "update_display_data": _display,
    "execute_result": _result,
    "clear_output": _clear,
    "error": _error,
    "comm_open": _comm,
    "comm_msg": _comm,
    "comm_close": _comm,
}


def failure_of(content: Json) -> Json:
    """The meta of an ERROR frame from an `error` message or an `execute_reply`."""
    lines = content.get("traceback")
    return failure(
        _text(content.get("ename"), _MAX_NAME) or "Error",
        _text(content.get("evalue"), _MAX_TEXT),
        [str(line)[:_MAX_TEXT] for line in lines] if isinstance(lines, list) else [],
    )


def failure(name: str, value: str, traceback: Optional[List[str]] = None) -> Json:
    """The meta of an ERROR frame."""
    lines = traceback or ["\x1b[31m%s\x1b[0m: %s" % (name, value)]
    if sum(map(len, lines)) > 2 * _MAX_TEXT:
        lines = [*lines[:10], "…", *lines[-10:]]
    return {"ename": name, "evalue": value, "traceback": lines[:_MAX_TRACEBACK]}


def question(message: Message) -> Json:
    """The meta of an INPUT_REQUEST."""
    prompt = _text(message.content.get("prompt"), _MAX_TEXT)
    return {"prompt": prompt, "password": message.content.get("password") is True}


# --- requests -------------------------------------------------------------------------


def execution(meta: Json, code: bytes) -> Json:
    """The content of an `execute_request`."""
    return {
        # R's parser knows no other end of line; every other one takes this for the same.
        "code": code.decode("utf-8", "replace").replace("\r\n", "\n"),
        "silent": bool(meta.get("silent")),
        "store_history": bool(meta.get("store_history", True)),
        "user_expressions": _object(meta.get("user_expressions")),
        "allow_stdin": bool(meta.get("allow_stdin")),
        # Queued cells are with the host.
        "stop_on_error": False,
    }


def attachment(meta: Json, code_for: Dict[str, str]) -> str:
    """The code that lets a kernel find the packages that ATTACH names; "" for none."""
    lines = []
    for layer in _list(meta.get("layers") or []):
        code = code_for.get(str(_object(layer).get("ecosystem")))
        if code:
            # JSON's quoting is that of every language that has a `--attach` so far.
            lines.append(code.replace("{path}", dumps(str(layer.get("path")))))
    return "\n".join(lines)


def silent(code: str) -> Json:
    """The content of an `execute_request` that nobody shall notice."""
    return {**execution({"silent": True, "store_history": False}, b""), "code": code}


def request(kind: int, meta: Json, data: bytes) -> Tuple[str, Json]:
    """(message type, content) of a request that is neither a cell nor a comm."""
    code = data.decode("utf-8", "replace")
    if kind == Kind.IS_COMPLETE:
        return "is_complete_request", {"code": code}
    cursor = meta.get("cursor_pos")
    content: Json = {"code": code, "cursor_pos": cursor if isinstance(cursor, int) else len(code)}
    if kind == Kind.COMPLETE:
        return "complete_request", content
    content["detail_level"] = 1 if meta.get("detail_level") else 0
    return "inspect_request", content


def comm(meta: Json, data: bytes) -> Tuple[str, Json, List[bytes]]:
    """(message type, content, buffers) of a comm message of the browser's."""
    action = str(meta.get("action"))
    content: Json = {"comm_id": str(meta.get("comm_id")), "data": _object(meta.get("data"))}
    if action == "open":
        content["target_name"] = str(meta.get("target_name"))
    buffers, start = [], 0
    for length in meta.get("buffers") or []:
        buffers.append(data[start : start + length])
        start += length
    return "comm_%s" % action, content, buffers


# --- replies --------------------------------------------------------------------------


def execute_reply(content: Json, asked: Any) -> Json:
    """The REPLY to a cell: pages only, and an answer for each expression that was asked."""
    status = "ok" if content.get("status") == "ok" else "error"
    payload = content.get("payload")
    answered = _object(content.get("user_expressions"))
    return {
        "status": status,
        "user_expressions": {
            str(name): _object(answered.get(name)) or _unevaluated() for name in _object(asked)
        },
        "payload": [
            {"source": "page", "data": _object(item.get("data")), "start": _start(item)}
            for item in (payload if isinstance(payload, list) else [])[:100]
            if isinstance(item, dict) and item.get("source") == "page"
        ],
    }


def asks_to_quit(content: Json) -> bool:
    """Whether a cell called what would end the kernel of a console."""
    payload = content.get("payload")
    return isinstance(payload, list) and any(
        isinstance(item, dict) and item.get("source") == "ask_exit" and not item.get("keepkernel")
        for item in payload[:100]
    )


def reply(kind: int, content: Json, meta: Json) -> Json:
    """The REPLY to any other request; a harmless one where the kernel's makes no sense."""
    is_ok = content.get("status", "ok") == "ok"
    if kind == Kind.IS_COMPLETE:
        return _completeness(content)
    if kind == Kind.COMPLETE:
        return _completion(content if is_ok else {}, meta.get("cursor_pos"))
    if kind == Kind.INSPECT:
        found = is_ok and bool(content.get("found"))
        return {
            "status": "ok",
            "found": found,
            "data": _object(content.get("data")) if found else {},
            "metadata": _object(content.get("metadata")) if found else {},
        }
    return {"status": "ok"}


def _completion(content: Json, asked: Any) -> Json:
    position = asked if isinstance(asked, int) else 0
    matches = content.get("matches")
    start, end = content.get("cursor_start"), content.get("cursor_end")
    has_range = _is_count(start) and _is_count(end)
    return {
        "status": "ok",
        # A list of one is a text in R.
        "matches": [m for m in _list(matches) if isinstance(m, str)][:_MAX_MATCHES],
        "cursor_start": start if has_range else position,
        "cursor_end": end if has_range else position,
        "metadata": _object(content.get("metadata")),
    }


def _completeness(content: Json) -> Json:
    status = content.get("status")
    if status not in ("complete", "incomplete", "invalid", "unknown"):
        return {"status": "unknown"}
    if status != "incomplete":
        return {"status": status}
    return {"status": status, "indent": _text(content.get("indent"), 200)}


def _unevaluated() -> Json:
    value = "This kernel does not evaluate expressions."
    return {"status": "error", "ename": "NotSupported", "evalue": value, "traceback": []}


def info(content: Json) -> Json:
    """What RUNNER_READY says, from a `kernel_info_reply`."""
    language = _object(content.get("language_info"))
    return {
        "implementation": _text(content.get("implementation"), 200),
        "version": _text(language.get("version"), 200),
        "ipython": None,
        "banner": _text(content.get("banner"), _MAX_NAME),
    }


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> List[Any]:
    return value if isinstance(value, list) else [value]


def _text(value: Any, limit: int) -> str:
    return value[:limit] if isinstance(value, str) else ""


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _start(item: Json) -> int:
    start = item.get("start")
    return start if isinstance(start, int) and _is_count(start) else 0

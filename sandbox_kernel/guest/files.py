"""The host's requests for files: reads their metadata, asks the workspace, words refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Tuple

if TYPE_CHECKING:
    from sandbox_kernel.guest.framing import Frame, FramingError, Kind
    from sandbox_kernel.guest.workspace import FileRefused, Workspace
else:
    from framing import FramingError, Kind
    from workspace import FileRefused

FILE_KINDS = frozenset((Kind.FILE_LIST, Kind.FILE_READ, Kind.FILE_WRITE, Kind.FILE_REMOVE))

Answer = Tuple[Dict[str, Any], bytes]


def answer_file_request(workspace: Workspace, frame: Frame) -> Answer:
    """Do what `frame` asks. Raises `FileRefused` with the reason."""
    try:
        return _answer(workspace, frame)
    except FramingError as error:
        raise FileRefused(str(error)) from None
    except UnicodeEncodeError:
        raise FileRefused("The name holds characters that no file name can hold.") from None
    except OSError as error:
        # `strerror` alone: the rest of the text holds a path.
        raise FileRefused("%s (%s)." % (error.strerror, type(error).__name__)) from None


def _answer(workspace: Workspace, frame: Frame) -> Answer:
    if frame.kind == Kind.FILE_LIST:
        return workspace.list_files(), b""
    meta = frame.read_meta()
    name = meta.get("name")
    if not isinstance(name, str):
        raise FileRefused("The request has %r as its name." % (name,))
    if frame.kind == Kind.FILE_REMOVE:
        workspace.remove_file(name)
        return {}, b""
    offset = _number(meta, "offset", 0)
    if frame.kind == Kind.FILE_READ:
        return workspace.read_file(name, offset, _number(meta, "length", 1024 * 1024))
    size = workspace.write_file(name, offset, bool(meta.get("truncate")), frame.data)
    return {"size": size}, b""


def _number(meta: Dict[str, Any], name: str, default: int) -> int:
    value = meta.get(name, default)
    # The kernel's file offsets have 63 bits.
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise FileRefused("The request has %r as its %s." % (value, name))
    return value

"""How the adapter and an interpreter speak: messages cut from and made into bytes. Pure.

    kind SP argument SP length LF   then exactly `length` bytes

`kind` is a word, `argument` a text without spaces, `-` when there is none. Requests go to
the interpreter's descriptor 3, events come from its descriptor 4:

    execute CELL,COUNT,SILENT,FRESH     code -> … done. FRESH: reopen 1 and 2 first, from
                                        /proc/$SANDBOX_ADAPTER/fd/1 and 2
    complete OFFSET                     code -> match TYPE …, completed START
    inspect OFFSET,DETAIL               code -> data …, inspected 0|1
    check -                             code -> checked complete|incomplete|invalid|unknown
    evaluate -                          expression -> data …, done
    attach ECOSYSTEM                    a directory with packages -> attached
    answer ok|refused                   the answer to `input`
    tools -                             functions of the host, as JSON; no answer (see `takes`)
    reply CALL,ok|error|cancelled       what a `call` of one gave, as JSON; at any time

    ready VERSION                       once: requests are taken; the implementation's name
    out CELL|-, err CELL|-              text that the language itself prints
    data MIME, meta -                   one form, and the metadata, of an output being made …
    display ID|-, update ID, result -   … and what shows it
    clear WAIT                          clear the outputs
    input PASSWORD                      a question; its prompt
    takes tools                         before `ready`: it can call the host's functions
    call CALL,NAME                      call one, with arguments as JSON
    ename -, evalue -, trace -          an error being told …
    done ok|error[,EXIT CODE]           … and the end of what was asked; the code is a shell's

Offsets count bytes of UTF-8. User code can write to descriptor 4 as well: what comes from
there is worth no more than any other output of the sandbox, and is bounded here.

Rule 1: text that is printed is handed on as it comes, however long it is; every other
payload is held until it is whole, or thrown away when it is over `MAX_PAYLOAD_BYTES`.
Rule 2: what is no message ends the conversation: nothing after it can be believed.
"""

from typing import Iterator, NamedTuple

# A display that is larger is refused by the supervisor in any case.
MAX_PAYLOAD_BYTES = 16 * 1024 * 1024
_MAX_HEADER_BYTES = 4096
_STREAMED = frozenset((b"out", b"err"))


class TalkError(ValueError):
    """What came is no message. The interpreter cannot be understood any further."""


class Message(NamedTuple):
    """One message, or a piece of printed text. `omitted` bytes were too many to hold."""

    kind: str
    argument: str
    payload: bytes
    omitted: int = 0


def encode(kind: str, argument: str = "-", payload: bytes = b"") -> bytes:
    """A request as bytes."""
    return b"%s %s %d\n%s" % (kind.encode(), argument.encode() or b"-", len(payload), payload)


class Parser:
    """Cuts what an interpreter writes into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._kind = b""  # of the message whose payload is awaited
        self._argument = b""
        self._length = 0
        self._missing = -1  # bytes of the payload still to come; -1: a header comes next

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """The messages that `chunk` completes. Raises `TalkError`."""
        self._buffer += chunk
        while True:
            if self._missing < 0 and not self._read_header():
                return
            message = self._read_payload()
            if message is None:
                return
            if message.kind:
                yield message

    def _read_header(self) -> bool:
        end = self._buffer.find(b"\n", 0, _MAX_HEADER_BYTES)
        if end < 0:
            if len(self._buffer) >= _MAX_HEADER_BYTES:
                raise TalkError("a header without an end")
            return False
        parts = bytes(self._buffer[:end]).split(b" ")
        if len(parts) != 3 or not parts[2].isdigit() or not parts[0].isalpha():
            raise TalkError("a header that is none: %r" % bytes(self._buffer[: min(end, 80)]))
        del self._buffer[: end + 1]
        self._kind, self._argument = parts[0], parts[1]
        self._length = self._missing = int(parts[2])
        return True

    def _read_payload(self) -> "Message | None":
        if self._length > MAX_PAYLOAD_BYTES or self._kind in _STREAMED:
            return self._read_piece()
        if len(self._buffer) < self._missing:
            return None
        return self._take(self._missing, 0)

    def _read_piece(self) -> "Message | None":
        """What is there of a payload that is not held."""
        size = min(len(self._buffer), self._missing)
        if not size and self._missing:
            return None
        is_last = size == self._missing
        if self._kind in _STREAMED:
            return self._take(size, 0)
        del self._buffer[:size]
        self._missing -= size
        if not is_last:
            return Message("", "", b"")
        self._missing = -1
        return Message(self._text(self._kind), self._text(self._argument), b"", self._length)

    def _take(self, size: int, omitted: int) -> Message:
        payload = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._missing -= size
        if not self._missing:
            self._missing = -1
        return Message(self._text(self._kind), self._text(self._argument), payload, omitted)

    @staticmethod
    def _text(word: bytes) -> str:
        return word.decode("utf-8", "replace")

"""The wire format: a Jupyter message as parts, signed, and back. Pure, no I/O.

    identities… | <IDS|MSG> | hmac | header | parent_header | metadata | content | buffers…

Rule 1: nothing is parsed before its signature was checked, in constant time.
Rule 2: every bound holds before anything is allocated for what it bounds.
Rule 3: `decode` raises `WireError` and nothing else, whatever the parts are.

Source: the messaging specification, "The Wire Protocol".
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hmac import HMAC, compare_digest
from typing import Any, NamedTuple

PROTOCOL_VERSION = "5.5"
DELIMITER = b"<IDS|MSG>"
USERNAME = "sandbox-kernel"

# What a guest takes in one frame is 16 MiB. Four times that lets JSON escapes grow, and
# lets us answer "too large" to what is not absurd, instead of dropping it in silence.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
# A ROUTER adds one identity; each proxy on the way adds another.
MAX_IDENTITIES = 16
# A widget view sends a handful; the guest's protocol lists their lengths as JSON.
MAX_BUFFERS = 1024
MAX_HEADER_BYTES = 64 * 1024
MAX_NAME_CHARACTERS = 1024
# Signatures remembered against replays: 2 MiB when full, hours of work at a keyboard.
MAX_SIGNATURES = 16 * 1024

Json = dict[str, Any]


class WireError(ValueError):
    """The parts are no message of ours, or the content no JSON. Says why, in a few words."""


class Message(NamedTuple):
    """A request as it came."""

    identities: list[bytes]
    msg_type: str
    msg_id: str
    parent_id: str  # "" when it answers nothing
    metadata: Json
    content: Json
    buffers: list[bytes]
    header: bytes  # JSON, ready to be the parent_header of answers
    json_bytes: int  # length of its JSON parts together


class Codec:
    """Signs and checks for one kernel. Remembers signatures, so that none counts twice."""

    def __init__(self, key: bytes, digest: str = "sha256", *, session: str | None = None) -> None:
        self.session = session or os.urandom(16).hex()
        self._mac = HMAC(key, digestmod=digest) if key else None
        self._count = 0
        self._seen: dict[bytes, None] = {}

    # -- out

    def encode(
        self,
        msg_type: str,
        content: Json,
        *,
        parent: bytes = b"{}",
        metadata: Json | None = None,
        identities: Iterable[bytes] = (),
        buffers: Iterable[bytes] = (),
    ) -> list[bytes]:
        """A message of ours as parts. `parent` is the `header` of what it answers.

        Raises:
            WireError: the content or metadata can't be JSON.
        """
        return self.encode_with_id(
            self.new_id(),
            msg_type,
            content,
            parent=parent,
            metadata=metadata,
            identities=identities,
            buffers=buffers,
        )

    def encode_with_id(
        self,
        msg_id: str,
        msg_type: str,
        content: Json,
        *,
        parent: bytes = b"{}",
        metadata: Json | None = None,
        identities: Iterable[bytes] = (),
        buffers: Iterable[bytes] = (),
    ) -> list[bytes]:
        """Like `encode`, for who must know the id to recognise the answer."""
        header = {
            "msg_id": msg_id,
            "username": USERNAME,
            "session": self.session,
            "date": utc_now(),
            "msg_type": msg_type,
            "version": PROTOCOL_VERSION,
        }
        signed = [dump(header), parent, dump(metadata) if metadata else b"{}", dump(content)]
        return [*identities, DELIMITER, self._sign(signed), *signed, *buffers]

    def new_id(self) -> str:
        self._count += 1
        return f"{self.session}_{self._count}"

    # -- in

    def decode(self, parts: Sequence[bytes]) -> Message:
        """The message that `parts` are.

        Raises:
            WireError: unsigned, badly signed, seen before, too large, or no message.
        """
        if sum(map(len, parts)) > MAX_MESSAGE_BYTES:
            raise WireError(f"it is over {MAX_MESSAGE_BYTES} bytes")
        start = _find_delimiter(parts)
        if len(parts) - start < 6:
            raise WireError("it has too few parts")
        signature, signed, buffers = (
            parts[start + 1],
            parts[start + 2 : start + 6],
            parts[start + 6 :],
        )
        if len(buffers) > MAX_BUFFERS:
            raise WireError(f"it has more than {MAX_BUFFERS} buffers")
        if max(map(len, signed[:2])) > MAX_HEADER_BYTES:
            raise WireError(f"its header is over {MAX_HEADER_BYTES} bytes")
        self._check(signature, signed)
        header, parent, metadata, content = map(_load, signed)
        parent_id = parent.get("msg_id")
        return Message(
            list(parts[:start]),
            _name(header, "msg_type"),
            _name(header, "msg_id"),
            parent_id if isinstance(parent_id, str) else "",
            metadata,
            content,
            list(buffers),
            # Written anew: what a client gets back as parent is JSON of ours, whatever it sent.
            dump(header),
            sum(map(len, signed)),
        )

    def _sign(self, signed: Sequence[bytes]) -> bytes:
        if self._mac is None:
            return b""
        mac = self._mac.copy()
        for part in signed:
            mac.update(part)
        return mac.hexdigest().encode()

    def _check(self, signature: bytes, signed: Sequence[bytes]) -> None:
        if self._mac is None:
            return  # an empty key is how a launcher says: don't sign
        if not compare_digest(signature, self._sign(signed)):
            raise WireError("its signature is wrong" if signature else "it is not signed")
        # Only what was signed well is remembered, so only who has the key can fill the memory.
        if signature in self._seen:
            raise WireError("it came before (a replay)")
        self._seen[signature] = None
        if len(self._seen) > MAX_SIGNATURES:
            del self._seen[next(iter(self._seen))]


def _find_delimiter(parts: Sequence[bytes]) -> int:
    for position, part in enumerate(parts[: MAX_IDENTITIES + 1]):
        if part == DELIMITER:
            return position
    raise WireError("it has no delimiter")


def _load(part: bytes) -> Json:
    try:
        value = json.loads(part)
    except (ValueError, RecursionError):
        raise WireError("a part is not JSON") from None
    if not isinstance(value, dict):
        raise WireError("a part is not a JSON object")
    return value


def _name(header: Json, field: str) -> str:
    value = header.get(field)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME_CHARACTERS:
        raise WireError(f"its header has no {field}")
    return value


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def dump(value: Json) -> bytes:
    """`value` as JSON in UTF-8; half a surrogate pair becomes U+FFFD.

    Raises:
        WireError: it is no JSON: NaN, a cycle, too deep, a foreign type.
    """
    try:
        text = _encode(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise WireError(f"it cannot be written as JSON: {type(error).__name__}") from None
    try:
        return text.encode()
    except UnicodeEncodeError:
        # A notebook with a lone surrogate could not be saved.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def utc_now() -> str:
    """ISO 8601 in UTC with microseconds, as headers want it."""
    seconds, micros = divmod(time.time_ns() // 1000, 1_000_000)
    return f"{_utc_second(seconds)}.{micros:06d}Z"


@lru_cache(maxsize=1)
def _utc_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))

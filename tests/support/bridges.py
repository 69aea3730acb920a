"""A network bridge for a test's own engine.

`--bridge=none` would have it delete `docker0`, which is the machine's engine's.
Source: netdevice(7), and linux/sockios.h for the numbers.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Iterator

_ADD_BRIDGE, _DELETE_BRIDGE = 0x89A0, 0x89A1
_SET_ADDRESS, _SET_NETMASK = 0x8916, 0x891C
_GET_FLAGS, _SET_FLAGS = 0x8913, 0x8914
_IS_UP = 1


@contextlib.contextmanager
def bridge() -> Iterator[str]:
    """The name of one with an address that nobody else has, for as long as the block lasts."""
    name = f"skt{os.urandom(4).hex()}"
    # RFC 2544's range for tests of network devices.
    second, third = os.urandom(2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        fcntl.ioctl(asking, _ADD_BRIDGE, name.encode() + b"\0")
        try:
            _set(asking, _SET_ADDRESS, name, f"198.{18 + second % 2}.{third}.1")
            _set(asking, _SET_NETMASK, name, "255.255.255.0")
            yield name
        finally:
            question = struct.pack("16sh14x", name.encode(), 0)
            flags = struct.unpack("16sh14x", fcntl.ioctl(asking, _GET_FLAGS, question))[1]
            down = struct.pack("16sh14x", name.encode(), flags & ~_IS_UP)
            fcntl.ioctl(asking, _SET_FLAGS, down)
            fcntl.ioctl(asking, _DELETE_BRIDGE, name.encode() + b"\0")


def _set(asking: socket.socket, what: int, name: str, address: str) -> None:
    packed = socket.inet_aton(address)
    fcntl.ioctl(asking, what, struct.pack("16sHH4s8x", name.encode(), socket.AF_INET, 0, packed))

"""A program of two hundred bytes that makes any system calls and says what they answered.

An image of it needs no base, no compiler and no Python, so that what a filter refuses is
tried with the very numbers and arguments that an attacker would use. x86-64 only.
"""

from __future__ import annotations

import io
import struct
import tarfile
from typing import NamedTuple

ADDRESS = 0x400000
HEADERS = 64 + 56  # of the file, and of its only segment
SCRATCH = ADDRESS + 0x8000  # 4 KiB of zeros that calls may point to
_SYSCALL, _INT_80 = b"\x0f\x05", b"\xcd\x80"
_CALL_BYTES = 64  # number, six arguments, answer


class Call(NamedTuple):
    """`number` with `arguments`; `is_fork`: its child ends at once."""

    number: int
    arguments: tuple[int, ...] = ()
    is_fork: bool = False


def program(calls: list[Call], *, is_32_bit: bool = False) -> bytes:
    """An ELF file that makes `calls`, then writes its table, answers filled in, to stdout.

    Args:
        is_32_bit: by `int 0x80`, where numbers are the 32-bit ones and arguments are wrong.
    """
    table = b"".join(
        struct.pack(
            "<QQQQQQQQ", call.number | call.is_fork << 63, *_six(call), 0xDEAD
        ) for call in calls
    )  # fmt: skip
    code = _code(len(calls), ADDRESS + 0x1000, _INT_80 if is_32_bit else _SYSCALL)
    content = bytearray(0x9000)
    content[0:HEADERS] = _headers(len(content))
    content[HEADERS : HEADERS + len(code)] = code
    content[0x1000 : 0x1000 + len(table)] = table
    return bytes(content)


def image(calls: list[Call], **options: bool) -> bytes:
    """A tar archive with the program as `/probe`, as an engine imports it."""
    content = program(calls, **options)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("probe")
        entry.size, entry.mode = len(content), 0o755
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def answers(output: bytes) -> list[int]:
    """What each call answered: a negative number is an errno."""
    return [
        struct.unpack_from("<q", output, start + 56)[0]
        for start in range(0, len(output), _CALL_BYTES)
    ]


def _six(call: Call) -> list[int]:
    return [value & 0xFFFFFFFFFFFFFFFF for value in (*call.arguments, *[0] * 6)[:6]]


def _code(count: int, table: int, trap: bytes) -> bytes:
    make = b"".join([
        b"\x4c\x8b\x23",              # mov r12, [rbx]: the number, its top bit "is a fork"
        b"\x4c\x89\xe0",              # mov rax, r12
        b"\x48\x0f\xba\xf0\x3f",      # btr rax, 63
        b"\x48\x8b\x7b\x08",          # mov rdi, [rbx+8]
        b"\x48\x8b\x73\x10",          # mov rsi, [rbx+16]
        b"\x48\x8b\x53\x18",          # mov rdx, [rbx+24]
        b"\x4c\x8b\x53\x20",          # mov r10, [rbx+32]
        b"\x4c\x8b\x43\x28",          # mov r8, [rbx+40]
        b"\x4c\x8b\x4b\x30",          # mov r9, [rbx+48]
        trap,
        b"\x49\x0f\xba\xe4\x3f",      # bt r12, 63
        b"\x73\x0e",                  # jnc store
        b"\x48\x85\xc0",              # test rax, rax
        b"\x75\x09",                  # jnz store
        b"\x31\xff",                  # xor edi, edi
        b"\xb8\x3c\x00\x00\x00",      # mov eax, 60: the child exits
        b"\x0f\x05",
        b"\x48\x89\x43\x38",          # store: mov [rbx+56], rax
        b"\x48\x83\xc3\x40",          # add rbx, 64
        b"\xff\xcd",                  # dec ebp
    ])  # fmt: skip
    start = b"\xbb" + struct.pack("<I", table) + b"\xbd" + struct.pack("<I", count)
    again = b"\x75" + struct.pack("<b", -len(make) - 2)  # jnz: the next call
    write = b"".join([
        b"\xb8\x01\x00\x00\x00\xbf\x01\x00\x00\x00",  # write(1, table, its length)
        b"\xbe" + struct.pack("<I", table),
        b"\xba" + struct.pack("<I", count * _CALL_BYTES),
        b"\x0f\x05",
        b"\xb8\xe7\x00\x00\x00\x31\xff\x0f\x05",  # exit_group(0)
    ])  # fmt: skip
    return start + make + again + write


def _headers(size: int) -> bytes:
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    file = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, ADDRESS + HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 7, 0, ADDRESS, ADDRESS, size, size, 0x1000)
    return identity + file + segment

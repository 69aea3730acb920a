"""What one sandbox may use. Vocabulary: no I/O.

`Limits` is checked when it is made, so whoever holds one may rely on it.
`Limits.parse` reads the spellings of the command line and the environment (`2g`, `0.5`).
To add a limit: a field with the reason for its default, a row in `_RANGES`, and the
backends that enforce it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from sandbox_kernel.errors import SettingsError

KIB, MIB, GIB = 1024, 1024**2, 1024**3


class _Fields(NamedTuple):
    # A NamedTuple, because `dataclasses` costs a kernel's start 7 ms before its guest runs.
    memory_bytes: int = 2 * GIB
    cpus: float = 2.0
    # pandas and a process pool of eight stay under a hundred; a fork bomb does not.
    processes: int = 256
    # Home, /tmp, /dev/shm and the working directory share this.
    workspace_bytes: int = 1 * GIB
    workspace_inodes: int = 100_000
    open_files: int = 1024

    # Jupyter Server drops stream output over 1 MB/s in 3 s: more than this would not arrive.
    # 0 lets all of it through, for clients that ask for everything.
    output_bytes: int = 2 * MIB
    # matplotlib 3.11: a line chart is 35 kB, a 4x4 grid at 300 dpi 387 kB, a noisy
    # 1280x720 image 1.8 MB. 10 MiB shows those and still bounds the notebook.
    artifact_bytes: int = 10 * MIB
    # Rich outputs of one cell. An animation of a minute at 30 frames/s is 1,800.
    displays: int = 5_000
    # Generated files shown after one cell; the rest are counted in one line.
    artifacts: int = 50

    # A cell's wall time. None: no limit, as notebooks expect.
    timeout_s: float | None = None
    # From SIGINT to SIGKILL. Long enough for `except KeyboardInterrupt: save()`.
    interrupt_grace_s: float = 5.0


class Limits(_Fields):
    """What one sandbox may use. Every field is enforced by every backend.

    Raises:
        SettingsError: a value is outside of what makes sense; the message names it.
    """

    __slots__ = ()

    def __new__(cls, **values: Any) -> Limits:
        """Fields by name only; what isn't named has its default."""
        _check_names(values)
        made = super().__new__(cls, **values)
        made._check()
        return made

    def _check(self) -> None:
        for name, (low, high, unit) in _RANGES.items():
            value = getattr(self, name)
            if value is None and name == "timeout_s":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise SettingsError(f"{name} is {value!r}, which is not a number of {unit}.")
            if not low <= value <= high:
                shown, least, most = (_told(number, unit) for number in (value, low, high))
                raise SettingsError(f"{name} is {shown}, which is outside of {least} to {most}.")

    @classmethod
    def parse(cls, texts: dict[str, str]) -> Limits:
        """Limits from texts by field name: sizes as `2g` or `512MiB`, times as `90` or `2m`.

        Raises:
            SettingsError: an unknown name, or a text that is not such a number.
        """
        _check_names(texts)
        return cls(**{name: _parse_value(name, text) for name, text in texts.items()})


def _told(number: float, unit: str) -> str:
    return format_size(number) if unit == "bytes" else f"{number:g} {unit}"


def _check_names(named: Iterable[str]) -> None:
    unknown = set(named) - set(_Fields._fields)
    if unknown:
        known = ", ".join(sorted(_Fields._fields))
        raise SettingsError(f"There is no limit {min(unknown)!r}; there are {known}.")


def fit_cpus(wanted: float, count: int) -> float:
    """CPUs on a machine that has `count`: the default is a maximum, other numbers a promise.

    Raises:
        SettingsError: more than there are.
    """
    if wanted <= count or wanted == _Fields().cpus:
        return min(wanted, float(count))
    raise SettingsError(
        f"cpus is {wanted:g}, but the machine gives us {count}. Ask for {count} or less."
    )


def fit_memory(wanted: int, available: int) -> int:
    """Bytes on a machine that has `available`, as with `fit_cpus`.

    Raises:
        SettingsError: more than there are.
    """
    if wanted <= available or wanted == _Fields().memory_bytes:
        return min(wanted, available)
    raise SettingsError(
        f"memory is {format_size(wanted)}, but the machine has {format_size(available)}. "
        "Ask for less."
    )


# name: (lowest, highest, unit)
_RANGES: dict[str, tuple[float, float, str]] = {
    "memory_bytes": (64 * MIB, 2**48, "bytes"),
    "cpus": (0.05, 4096, "CPUs"),
    "processes": (8, 2**20, "processes"),
    "workspace_bytes": (1 * MIB, 2**48, "bytes"),
    "workspace_inodes": (64, 2**31, "inodes"),
    "open_files": (64, 2**20, "descriptors"),
    "output_bytes": (0, 2**40, "bytes"),
    "artifact_bytes": (1 * KIB, 12 * MIB, "bytes"),
    "displays": (1, 10**6, "displays"),
    "artifacts": (0, 10**4, "files"),
    "timeout_s": (0.1, 30 * 86400, "seconds"),
    "interrupt_grace_s": (0.1, 600, "seconds"),
}

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)?", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "k": KIB, "m": MIB, "g": GIB, "t": 1024 * GIB}
_TIME_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


def _parse_value(name: str, text: str) -> int | float | None:
    stripped = text.strip()
    if name == "timeout_s" and stripped.lower() in {"none", "0", ""}:
        return None
    if name.endswith("_bytes"):
        return parse_size(stripped, name)
    if name.endswith("_s"):
        found = _TIME.fullmatch(stripped)
        if found is None:
            raise SettingsError(f"{name} is {text!r}, which is not a time such as 90, 90s or 2m.")
        unit = found[2].lower() if found[2] else None
        return float(found[1]) * _TIME_UNITS[unit]
    try:
        return float(stripped) if name == "cpus" else int(stripped)
    except ValueError:
        raise SettingsError(f"{name} is {text!r}, which is not a number.") from None


def parse_size(text: str, name: str) -> int:
    """Bytes from `2g`, `512MiB` or `1048576`.

    Raises:
        SettingsError: anything else; the message names `name` and the text.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise SettingsError(f"{name} is {text!r}, which is not a size such as 512m or 2g.")
    return int(float(found[1]) * _SIZE_UNITS[found[2].lower()])


def format_size(count: float) -> str:
    """`count` bytes for a reader: `1.5 GiB`, `35 kB` never."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.3g} {unit}"

"""Optional libraries: what to say when one is not installed."""

from __future__ import annotations

from sandbox_kernel.errors import ExtraMissing


def missing(what: str, extra: str, error: ImportError) -> ExtraMissing:
    """What to raise in place of `error`, met while importing what `what` needs."""
    return ExtraMissing(
        f"{what} needs the package {error.name or 'it names'}, which is not installed or too "
        f"old ({error}). Install it with: pip install 'sandbox-kernel[{extra}]'"
    )

"""What works here, found by trying.

`examine` gives plain data; the command line renders it. A finding whose `level` is
"problem" has a remedy. Nothing here changes the machine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from sandbox_kernel import __version__, availability, backends, kernelspecs, languages
from sandbox_kernel.availability import Availability, Survey
from sandbox_kernel.backends.base import Check
from sandbox_kernel.errors import SandboxKernelError, SettingsError
from sandbox_kernel.settings import Settings, settings_path

# name of the distribution: what it is for
EXTRAS = {
    "jupyterlab": "notebooks in a browser (pip install 'sandbox-kernel[lab]')",
    "nbclient": "sandbox-kernel demo (pip install 'sandbox-kernel[demo]')",
    "matplotlib": "charts (pip install 'sandbox-kernel[demo]')",
    "IPython": "magics and rich output inside the sandbox (pip install ipython)",
}


class Finding(NamedTuple):
    level: str  # "good", "note" or "problem"
    subject: str
    text: str
    remedy: str = ""


class Report(NamedTuple):
    """`is_usable`: at least the backend in force can isolate."""

    is_usable: bool
    version: str
    chosen_backend: str
    boundary: str
    python: str  # whose environment cells see: an interpreter, or an image
    checks: list[Check]
    languages: list[Availability]  # on the backend in force
    settings: dict[str, dict[str, str]]  # name -> value, source
    findings: list[Finding]

    def as_json(self) -> dict[str, Any]:
        return {
            **self._asdict(),
            "checks": [check._asdict() for check in self.checks],
            "languages": [language._asdict() for language in self.languages],
            "findings": [finding._asdict() for finding in self.findings],
        }


def examine(options: Mapping[str, str] | None = None) -> Report:
    """Try everything; takes a second or two."""
    settings, findings = _settings(options or {})
    checks = [_check(name) for name in backends.names()]
    chosen = _chosen(settings, checks)
    findings += [_backend_finding(check, chosen) for check in checks]
    findings += [_extra(name, use) for name, use in EXTRAS.items()]
    findings += _model(settings)
    survey = Survey()  # one for all: an engine that hangs is waited for once
    findings += _kernels(survey)
    return Report(
        is_usable=settings is not None and chosen is not None and chosen.is_usable,
        version=__version__,
        chosen_backend=chosen.backend if chosen else "none",
        boundary=chosen.boundary if chosen and chosen.is_usable else "",
        python=_environment(settings),
        checks=checks,
        languages=[survey.at(name, settings) for name in languages.names()] if settings else [],
        settings=_in_force(settings),
        findings=findings,
    )


# --- settings -------------------------------------------------------------------------


def _settings(options: Mapping[str, str]) -> tuple[Settings | None, list[Finding]]:
    try:
        settings = Settings.load(options)
    except SettingsError as error:
        remedy = "Correct it; until then no kernel that reads it starts."
        return None, [Finding("problem", "settings", str(error), remedy)]
    path, _ = settings_path(os.environ)
    state = "is read" if os.path.exists(path) else "does not exist, so it changes nothing"
    return settings, [Finding("good", "settings", f"The settings file {path} {state}.")]


def _in_force(settings: Settings | None) -> dict[str, dict[str, str]]:
    if settings is None:
        return {}
    return {
        name: {"value": text, "source": settings.sources[name]}
        for name, text in settings.texts.items()
    }


# --- backends -------------------------------------------------------------------------


def _check(name: str) -> Check:
    try:
        return backends.get(name).check()
    except (SandboxKernelError, OSError, ImportError) as error:
        return Check(name, False, "", str(error), "Install what the message names.", {})


def _chosen(settings: Settings | None, checks: list[Check]) -> Check | None:
    """The one that a kernel would use: the named one, or the strongest for `auto`."""
    wanted = settings.backend if settings else "auto"
    if wanted == "auto":
        return checks[0] if checks else None
    return next((check for check in checks if check.backend == wanted), None)


def _backend_finding(check: Check, chosen: Check | None) -> Finding:
    role = "in force" if check is chosen else "available"
    if check.is_usable:
        return Finding("good", check.backend, f"{role}: {check.boundary}. {check.reason}".strip())
    # What nobody asked for may be missing; `auto` never chooses it.
    level = "problem" if check is chosen or chosen is None else "note"
    return Finding(level, check.backend, f"not usable here: {check.reason}", check.remedy)


def _environment(settings: Settings | None) -> str:
    if settings is None or backends.shows_host(settings.backend):
        return (settings.python if settings else None) or sys.executable
    return f"the image {settings.image or languages.get(settings.language).image}"


# --- what is around -------------------------------------------------------------------


def _extra(module: str, use: str) -> Finding:
    from importlib.util import find_spec

    if find_spec(module) is not None:
        return Finding("good", module, "is there")
    return Finding("note", module, "is not installed", f"Only needed for {use}.")


def _model(settings: Settings | None) -> list[Finding]:
    """Whom `chat` and `%%ask` would ask, and whose key they have; nobody is asked here."""
    if settings is None or settings.model is None:
        return []  # most kernels want none
    from sandbox_kernel.models import endpoint

    try:
        at = endpoint.find(settings)
    except SettingsError as error:
        return [Finding("problem", "model", str(error), "Until then chat and %%ask fail.")]
    key = f"a key from the {at.key_source}" if at.key else "no key"
    found = Finding("good", "model", f"{at.model} at {at.url}, with {key}")
    use = "models: chat, %%ask, interpret (pip install 'sandbox-kernel[ai]')"
    missing = _extra("openai", use)
    return [found] if missing.level == "good" else [found, missing]


def _kernels(survey: Survey) -> list[Finding]:
    ours = [spec for spec in kernelspecs.installed() if spec.is_ours]
    if not ours:
        remedy = "Write one with: sandbox-kernel install"
        return [Finding("problem", "kernels", "Jupyter has no sandbox kernel.", remedy)]
    trials = {interpreter: _trial(interpreter) for interpreter in {spec.argv[0] for spec in ours}}
    return [_kernel(spec, trials[spec.argv[0]], survey) for spec in ours]


def _kernel(spec: kernelspecs.Kernelspec, wrong: str, survey: Survey) -> Finding:
    """Whether a kernel can start, and its language with it.

    Args:
        wrong: what is wrong with its interpreter, "" for nothing.
    """
    again = f"Write it again with: sandbox-kernel install --name {spec.name}"
    subject = f"kernel {spec.name}"
    try:
        settings = Settings.load(spec.options)
    except SettingsError as error:
        return Finding("problem", subject, str(error), again)
    if wrong:
        return Finding("problem", subject, f"{spec.directory}: {wrong}", again)
    found = survey.at(settings.language, settings)
    if found.state != availability.READY:
        # An engine that does not answer is a finding of its own already.
        level = "problem" if found.state == availability.MISSING else "note"
        return Finding(level, subject, f"{spec.directory}: {found.reason}", found.remedy)
    return Finding("good", subject, f"{spec.display_name}, in {spec.directory}")


def _trial(interpreter: str) -> str:
    """What is wrong with a kernelspec's interpreter; "" when it finds the kernel."""
    import subprocess

    program = sys.executable if interpreter == "python" else interpreter
    probe = f"import importlib.util as u; u.find_spec({kernelspecs.KERNEL_MODULE!r}) or exit(1)"
    try:
        done = subprocess.run([program, "-P", "-c", probe], capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{program} cannot be started ({error})."
    return f"{program} has no {kernelspecs.KERNEL_MODULE}." if done.returncode else ""

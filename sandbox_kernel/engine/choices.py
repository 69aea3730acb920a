"""What a caller asks for, as the spec and the policies of one session. No I/O but settings.

What the caller leaves out comes from the settings: `SANDBOX_KERNEL_*`, then the settings
file, then the defaults. A program that a user configured by these behaves as their
notebooks do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from types import UnionType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sandbox_kernel import languages
from sandbox_kernel.backends.base import Mount, SandboxSpec
from sandbox_kernel.errors import SettingsError
from sandbox_kernel.limits import Limits
from sandbox_kernel.provision import spec_from
from sandbox_kernel.settings import Settings

if TYPE_CHECKING:
    from sandbox_kernel.dependencies.policy import Policy

# A program that a model wrote and nobody watches should not run for ever.
TIMEOUT_S = 60.0

UNSET: Any = object()
E = TypeVar("E", bound=Enum)


class Strategy(Enum):
    """How long a sandbox lives.

    PER_SESSION: as long as its session; variables and files live from run to run.
    PER_EXECUTION: one run. Each gets a sandbox of its own, made when it is wanted.
    POOL: one run, too, in a sandbox that was made before and has run nobody's code.
    """

    PER_SESSION = "per_session"
    PER_EXECUTION = "per_execution"
    POOL = "pool"


class Workspace(Enum):
    """Whether the files of one run are there in the next.

    With fresh sandboxes, those of a shared workspace are carried over by the host.
    """

    SHARED = "shared"
    ISOLATED = "isolated"


class Choices(NamedTuple):
    """Everything that was decided about one session.

    Args:
        spec: of its sandboxes, without packages.
        timeout_s: of a run that names none; None: no limit.
        preload: modules that are imported before a sandbox is handed out.
    """

    spec: SandboxSpec
    strategy: Strategy
    workspace: Workspace
    outputs: str
    timeout_s: float | None
    preload: tuple[str, ...]
    allow_forward: bool
    policy: Policy
    cache_bytes: int


def choose(
    settings: Settings,
    language: str | None,
    *,
    strategy: Strategy | str,
    workspace: Workspace | str | None,
    limits: Limits | None,
    image: str | None,
    python: str | None,
    runtime: str | None,
    mounts: Sequence[Mount | str] | None,
    environment: Mapping[str, str] | None,
    outputs: str | None,
    dependencies: Iterable[str],
    dependency_policy: str | None,
    allowed_dependencies: Iterable[str],
    preload: Sequence[str],
    allow_forward: bool,
) -> Choices:
    """
    Raises:
        SettingsError: names what cannot be, and the remedy.
    """
    from sandbox_kernel.dependencies.policy import Policy

    check_is("limits", limits, Limits | None, "Limits(memory_bytes=…)")
    check_is("environment", environment, Mapping | None, "a mapping of names to texts")
    check_is("allow_forward", allow_forward, bool, "True or False")
    name = languages.named(language or settings.language)
    how = _member(Strategy, strategy, "strategy")
    spec = spec_from(settings)._replace(language=name, limits=limits or settings.limits)
    spec = spec._replace(
        image=image or spec.image,
        python=python or spec.python,
        runtime=runtime or spec.runtime,
    )
    if mounts is not None:
        spec = spec._replace(mounts=_mounts(mounts))
    if environment is not None:
        spec = spec._replace(environment=_environment(environment))
    mode = dependency_policy or settings.dependencies
    policy = Policy.make(
        _one_of("dependency_policy", mode, ("any", "declared", "none")),
        languages.get(name).ecosystem,
        allowed=[*settings.allowed_dependencies, *list_of(allowed_dependencies)],
        declared=[*settings.declared_dependencies, *list_of(dependencies)],
    )
    return Choices(
        spec=spec._replace(shows_layers=mode != "none"),
        strategy=how,
        workspace=_workspace(workspace, how),
        outputs=_one_of("outputs", outputs or settings.outputs, ("safe", "trusted")),
        timeout_s=_timeout(limits, settings),
        preload=tuple(list_of(preload)),
        allow_forward=allow_forward,
        policy=policy,
        cache_bytes=settings.dependency_cache_bytes,
    )


def _workspace(text: Workspace | str | None, strategy: Strategy) -> Workspace:
    if text is None:
        is_kept = strategy is Strategy.PER_SESSION
        return Workspace.SHARED if is_kept else Workspace.ISOLATED
    return _member(Workspace, text, "workspace")


def _timeout(limits: Limits | None, settings: Settings) -> float | None:
    if limits is not None:
        return TIMEOUT_S if limits.timeout_s is None else limits.timeout_s
    # "none" in the settings is somebody's word; the default is nobody's.
    is_default = settings.sources.get("timeout") == "default"
    return TIMEOUT_S if is_default else settings.limits.timeout_s


def list_of(texts: Iterable[str]) -> list[str]:
    """`texts` as a list; one text is one, not its letters.

    Raises:
        SettingsError: something else than texts is among them.
    """
    if not isinstance(texts, Iterable):
        raise SettingsError(f"In place of a list of texts there is {texts!r:.80}. Give a list.")
    found = [texts] if isinstance(texts, str) else list(texts)
    for text in found:
        if not isinstance(text, str):
            raise SettingsError(f"In a list of texts is {text!r:.80}. Give texts only.")
    return found


def check_seconds(name: str, value: float | None) -> None:
    """
    Raises:
        SettingsError: it is no time that can pass.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (is_number and value > 0):
        raise SettingsError(f"{name} is {value!r}; give seconds, more than 0, or None.")


def check_count(name: str, value: int, least: int = 0) -> None:
    """
    Raises:
        SettingsError: it is no number of things, or less than `least`.
    """
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if not (is_number and value >= least):
        raise SettingsError(f"{name} is {value!r}; give a whole number, {least} or more.")


def check_is(name: str, value: object, kind: type | UnionType, what: str) -> None:
    """
    Raises:
        SettingsError: `value` is not of that kind; `what` is to be given.
    """
    if not isinstance(value, kind):
        raise SettingsError(f"{name} is {value!r:.80}; give {what}.")


def _mounts(mounts: Sequence[Mount | str]) -> tuple[Mount, ...]:
    if isinstance(mounts, Iterable) and not isinstance(mounts, Mount | str):
        return tuple(map(_mount, mounts))
    raise SettingsError(f"mounts is {mounts!r:.80}; give a list, as ['/srv/data:/data:ro'].")


def _mount(mount: Mount | str) -> Mount:
    if isinstance(mount, str):
        from sandbox_kernel.backends.docker.mounts import parse  # what hardly any session has

        return parse(mount)
    if not isinstance(mount, Mount):
        raise SettingsError(f"A mount is {mount!r:.80}; give a text, as '/srv/data:/data:ro'.")
    return mount


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    for name, value in variables.items():
        if not name or "=" in name or "\0" in f"{name}{value}":
            raise SettingsError(
                f"The environment variable {name!r} cannot be set: names have no '=' and are "
                "not empty, and neither they nor values have NUL characters."
            )
    return {str(name): str(value) for name, value in variables.items()}


def _member(kind: type[E], value: E | str, name: str) -> E:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(str(item.value) for item in kind)
        raise SettingsError(f"{name} is {value!r}; choose one of {known}.") from None


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise SettingsError(f"{name} is {value!r}; choose one of {', '.join(known)}.")
    return value

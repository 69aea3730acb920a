"""What a caller asks for, as the spec and the policies of one session. No I/O but settings.

What the caller leaves out comes from the settings: `SANDBOX_KERNEL_*`, then the settings
file, then the defaults. A program that a user configured by these behaves as their
notebooks do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
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
    mounts: Sequence[Mount] | None,
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

    name = _language(language or settings.language)
    how = _member(Strategy, strategy, "strategy")
    spec = spec_from(settings)._replace(language=name, limits=limits or settings.limits)
    spec = spec._replace(
        image=image or spec.image,
        python=python or spec.python,
        runtime=runtime or spec.runtime,
    )
    if mounts is not None:
        spec = spec._replace(mounts=tuple(mounts))
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
        preload=tuple(preload),
        allow_forward=allow_forward,
        policy=policy,
        cache_bytes=settings.dependency_cache_bytes,
    )


def _language(text: str) -> str:
    name = languages.resolve(text)
    if name is None:
        known = ", ".join(languages.names())
        raise SettingsError(f"There is no language {text!r}; there are {known}.")
    return name


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
    """`texts` as a list; one text is one, not its letters."""
    return [texts] if isinstance(texts, str) else list(texts)


def check_seconds(name: str, value: float | None) -> None:
    """
    Raises:
        SettingsError: it is no time that can pass.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (is_number and value > 0):
        raise SettingsError(f"{name} is {value!r}; give seconds, more than 0, or None.")


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

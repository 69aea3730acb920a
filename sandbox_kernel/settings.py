"""What the owner of a kernel decided, and where each decision came from.

`Settings.load` reads, strongest first: the kernelspec's arguments, `SANDBOX_KERNEL_*`
environment variables, the settings file, the defaults.

Rule 1: a cell never reaches this module: nothing here is read from a guest.
Rule 2: what is not understood is refused, never skipped: a misspelt `netwrok` that is
        ignored would leave its owner believing in a limit that isn't there.
Rule 3: a stronger source replaces a weaker one whole; values are never mixed.
Rule 4: a secret has no text that could be shown, and comes from no command line, where
        every user of the machine would see it.

To add a setting: a row in `TABLE` and, if it isn't a limit, a field in `Settings`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox_kernel.errors import SettingsError
from sandbox_kernel.limits import Limits, parse_size

if TYPE_CHECKING:
    from sandbox_kernel.backends.base import Mount

PREFIX = "SANDBOX_KERNEL_"
FILE_VARIABLE = PREFIX + "SETTINGS"

# Registered backends; a new one is one more name here and its own file.
BACKENDS = ("auto", "bubblewrap", "docker")
# Those that may be given several times: one text, a line each.
REPEATABLE = ("env", "mount", "dependency", "allow_dependency")


class Setting(NamedTuple):
    """One row of the table."""

    name: str  # in the file; `--name` and `SANDBOX_KERNEL_NAME` elsewhere
    field: str  # of `Settings`, or of `Limits` when `is_limit`
    parse: Callable[[str], Any]  # raises ValueError or SettingsError with the reason
    default: str  # None is written ""
    help: str
    example: str
    is_limit: bool = False
    is_secret: bool = False


class Secret:
    """A text that is neither printed nor compared by accident. `reveal` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")


class Settings(NamedTuple):
    """What is in force. `sources` says for every setting where it came from.

    A NamedTuple, because a kernel's start-up pays for every class that is generated.
    """

    backend: str
    python: str | None
    image: str | None
    runtime: str | None
    mounts: tuple[Mount, ...]
    network: str
    outputs: str
    language: str
    limits: Limits
    environment: dict[str, str]
    dependencies: str
    declared_dependencies: tuple[str, ...]
    allowed_dependencies: tuple[str, ...]
    dependency_cache_bytes: int
    is_shared: bool
    model: str | None
    model_url: str | None
    model_key: Secret | None
    mcp_token: Secret | None
    sources: dict[str, str]
    texts: dict[str, str]  # every setting as it was written, but for secrets, for `doctor`

    @classmethod
    def load(
        cls,
        options: Mapping[str, str] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        defaults: Mapping[str, str] | None = None,
    ) -> Settings:
        """Read every source once.

        Args:
            options: kernelspec arguments by name, without `--`. Several `--env` or
                `--mount` are one text, joined by newlines.
            environ: in place of `os.environ`.
            defaults: an adapter's own defaults, weaker than everything else.

        Raises:
            SettingsError: names the setting, its source, the value and the remedy.
        """
        environ = os.environ if environ is None else environ
        chosen: dict[str, tuple[str, str]] = {row.name: (row.default, "default") for row in TABLE}
        for texts in (
            _from_options(defaults or {}, "default"),
            _from_file(environ),
            _from_environment(environ),
            _from_options(options or {}, "kernelspec"),
        ):
            chosen.update(texts)
        return cls._from_texts(chosen)

    @classmethod
    def _from_texts(cls, chosen: dict[str, tuple[str, str]]) -> Settings:
        values = {row.name: _parse(row, *chosen[row.name]) for row in TABLE}
        return cls(
            **{row.field: values[row.name] for row in TABLE if not row.is_limit},
            limits=Limits(**{row.field: values[row.name] for row in TABLE if row.is_limit}),
            sources={name: source for name, (_, source) in chosen.items()},
            texts={row.name: _shown(row, chosen[row.name][0]) for row in TABLE},
        )


# --- one parser a kind of value -------------------------------------------------------


def _one_of(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            hint = _suggest(text, names)
            raise ValueError(f"it is not one of {', '.join(names)}{hint}")
        return text

    return parse


def _language(text: str) -> str:
    from sandbox_kernel import languages

    # Aliases too. Those that are unknown cost a look at what is installed.
    return languages.resolve(text) or _one_of(*languages.names())(text)


def _limit(field: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        if field == "output_bytes" and text.lower() == "all":
            text = "0"
        if len(text) > 64:
            raise ValueError("it is far too long for a number")
        return getattr(Limits.parse({field: text}), field)

    return parse


def _interpreter(text: str) -> str | None:
    if not text:
        return None
    path = os.path.expanduser(text)
    if not os.path.isabs(path):
        raise ValueError("it is not an absolute path")
    if not os.path.isfile(path):
        raise ValueError("there is no such file")
    if not os.access(path, os.X_OK):
        raise ValueError("that file is not executable")
    return path


def _network(text: str) -> str:
    if text.lower() != "none":
        raise ValueError("no backend that exists gives a sandbox a network")
    return "none"


def _image(text: str) -> str | None:
    if text.startswith("-") or any(c.isspace() or not c.isprintable() for c in text):
        raise ValueError("it is not the name of an image")
    return text or None


def _runtime(text: str) -> str | None:
    # Engines also take the path of a program here: no owner of a kernel needs that.
    if text and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", text):
        raise ValueError("it is not the name of a runtime")
    return text or None


def _mounts(text: str) -> tuple[Mount, ...]:
    if not text:
        return ()
    from sandbox_kernel.backends.docker import mounts  # what hardly any kernel has

    return mounts.parse_all(text.splitlines())


def _packages(text: str) -> tuple[str, ...]:
    """Judged by `dependencies.policy`, which knows the language."""
    import shlex

    return tuple(word for line in text.splitlines() for word in shlex.split(line))


def _package_names(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _cache_size(text: str) -> int:
    return parse_size(text, "dependency_cache")


def _switch(text: str) -> bool:
    return _one_of("on", "off")(text.lower()) == "on"


def _model(text: str) -> str | None:
    if len(text) > 200 or any(c.isspace() or not c.isprintable() for c in text):
        raise ValueError("it is not the name of a model")
    return text or None


def _model_url(text: str) -> str | None:
    if not text:
        return None
    from urllib.parse import urlsplit

    parts = urlsplit(text)  # ValueError where there is half an IPv6 address
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it is not an http or https address")
    if "@" in parts.netloc:
        raise ValueError("a key in an address is shown everywhere: set model_key")
    return text.rstrip("/")


def _secret(text: str) -> Secret | None:
    # What a header may hold. The reason doesn't repeat the text.
    if not (text.isascii() and text.isprintable()) or " " in text or len(text) > 4096:
        raise ValueError("it has characters that no key has, or far too many")
    return Secret(text) if text else None


# Compiled at use: hardly anyone sets a variable, and everyone imports this.
_VARIABLE = r"([A-Za-z_][A-Za-z0-9_]*)=([^\0]*)"
# A comma only separates when a name follows, so that values may hold commas.
_SEPARATOR = r",(?=[A-Za-z_][A-Za-z0-9_]*=)|\n"


def _environment(text: str) -> dict[str, str]:
    found = {}
    for item in filter(None, re.split(_SEPARATOR, text)):
        match = re.fullmatch(_VARIABLE, item, re.DOTALL)
        if match is None:
            raise ValueError(f"{item!r} is not NAME=VALUE")
        found[match[1]] = match[2]
    return found


_FIELDS = {
    "env": "environment",
    "mount": "mounts",
    "dependency": "declared_dependencies",
    "allow_dependency": "allowed_dependencies",
    "dependency_cache": "dependency_cache_bytes",
    "share": "is_shared",
}


def _row(name: str, parse: Callable[[str], Any], default: str, example: str, help: str) -> Setting:
    return Setting(name, _FIELDS.get(name, name), parse, default, help, example)


def _limit_row(name: str, field: str, default: str, example: str, help: str) -> Setting:
    return Setting(name, field, _limit(field), default, help, example, is_limit=True)


# Defaults of limits repeat `limits.py` in the spelling of the settings; a test compares.
TABLE: tuple[Setting, ...] = (
    _row("language", _language, "python", "python", "what the cells are written in"),
    _row("backend", _one_of(*BACKENDS), "auto", "auto", "what isolates the sandbox"),
    _row("python", _interpreter, "", "/usr/bin/python3", "whose environment the sandbox gets"),
    _row("image", _image, "", "python:3.12", "for backends that run images"),
    _row("runtime", _runtime, "", "runsc", "which of the engine's runtimes runs containers"),
    _row("mount", _mounts, "", "/data:/data:ro", "HOST:GUEST[:ro|rw], or tmpfs:GUEST[:SIZE]"),
    _row("network", _network, "none", "none", "what the sandbox may reach"),
    _row("outputs", _one_of("safe", "trusted"), "safe", "safe", "what a browser may be shown"),
    _row("env", _environment, "", "TZ=UTC", "variables inside the sandbox, NAME=VALUE"),
    _row(
        "dependencies",
        _one_of("any", "declared", "none"),
        "any",
        "declared",
        "which packages may be installed: what cells ask for, what --dependency declares, none",
    ),
    _row("dependency", _packages, "", "pandas==3.*", "a package that is there from the start"),
    _row("allow_dependency", _package_names, "", "pandas,plotly", "names that cells may ask for"),
    _row("dependency_cache", _cache_size, "10g", "10g", "of all installed packages together"),
    _row("share", _switch, "on", "off", "whether your own programs may attach to a notebook"),
    _row("model", _model, "", "gpt-5-mini", "the language model of chat and %%ask"),
    _row(
        "model_url",
        _model_url,
        "",
        "http://127.0.0.1:11434/v1",
        "its OpenAI-compatible endpoint; the default is OpenAI's own",
    ),
    Setting(
        *("model_key", "model_key", _secret, ""),
        help="its key; from the environment or the settings file only",
        example="the key that your provider gave you",
        is_secret=True,
    ),
    Setting(
        *("mcp_token", "mcp_token", _secret, ""),
        help="what clients of `mcp --http` must know; from the environment or the settings file",
        example="32 random characters",
        is_secret=True,
    ),
    _limit_row("memory", "memory_bytes", "2g", "2g", "memory of the whole sandbox"),
    _limit_row("cpus", "cpus", "2", "2", "CPUs it may keep busy"),
    _limit_row("processes", "processes", "256", "256", "processes and threads"),
    _limit_row("workspace", "workspace_bytes", "1g", "1g", "bytes of all files it writes"),
    _limit_row("workspace_inodes", "workspace_inodes", "100000", "100000", "number of its files"),
    _limit_row("open_files", "open_files", "1024", "1024", "descriptors of one process"),
    _limit_row("output", "output_bytes", "2m", "2m", "stream output of one cell; all: no budget"),
    _limit_row("artifact", "artifact_bytes", "10m", "10m", "longest file that is shown"),
    _limit_row("displays", "displays", "5000", "5000", "rich outputs of one cell"),
    _limit_row("artifacts", "artifacts", "50", "50", "generated files shown after a cell"),
    _limit_row("timeout", "timeout_s", "none", "90s", "wall time of one cell; none: no limit"),
    _limit_row("interrupt_grace", "interrupt_grace_s", "5s", "5s", "from SIGINT to SIGKILL"),
)
_ROWS = {row.name: row for row in TABLE}


# --- one reader a source --------------------------------------------------------------


def _from_options(options: Mapping[str, str], source: str) -> dict[str, tuple[str, str]]:
    found = {}
    for name, text in options.items():
        name = name.lstrip("-").replace("-", "_")
        _require_known(name, source)
        if _ROWS[name].is_secret and source == "kernelspec":
            raise _visible_secret(name)
        found[name] = (text, source)
    return found


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    found = {}
    for variable, text in environ.items():
        # An empty variable is how shells and compose files say "unset".
        if not variable.startswith(PREFIX) or variable == FILE_VARIABLE or not text:
            continue
        source = f"environment {variable}"
        name = variable.removeprefix(PREFIX).lower()
        _require_known(name, source)
        found[name] = (text, source)
    return found


def settings_path(environ: Mapping[str, str]) -> tuple[str, bool]:
    """Where the settings file is, and whether someone named it (then it must exist)."""
    named = environ.get(FILE_VARIABLE)
    if named:
        return os.path.expanduser(named), True
    home = environ.get("XDG_CONFIG_HOME") or os.path.join(
        environ.get("HOME") or os.path.expanduser("~"), ".config"
    )
    return os.path.join(home, "sandbox-kernel", "settings.toml"), False


def _from_file(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    path, is_named = settings_path(environ)
    if not is_named and not os.path.exists(path):
        return {}
    source = f"settings file {path}"
    found = {}
    for name, value in _read_toml(path).items():
        _require_known(name.replace("-", "_"), source)
        name = name.replace("-", "_")
        found[name] = (_text_of(name, value, source), source)
    return found


def _read_toml(path: str) -> dict[str, Any]:
    import tomllib  # 10 ms that only those pay who have a settings file

    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingsError(
            f"The settings file {path} cannot be read: {error.strerror}. "
            f"Correct it, or the variable {FILE_VARIABLE} that names it."
        ) from None
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise SettingsError(
            f'The settings file {path} is not TOML: {error}. Write lines such as memory = "2g".'
        ) from None


def _text_of(name: str, value: Any, source: str) -> str:
    """A TOML value in the spelling of the command line."""
    if name == "env" and isinstance(value, dict):
        return "\n".join(f"{key}={item}" for key, item in value.items())
    if name in REPEATABLE and isinstance(value, list):
        return "\n".join(str(item) for item in value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _refusal(_ROWS[name], str(value), source, "it is not a text or a number")
    return str(value)


# --- what goes wrong ------------------------------------------------------------------


def _parse(row: Setting, text: str, source: str) -> Any:
    try:
        return row.parse(text.strip())
    except (ValueError, SettingsError) as error:
        raise _refusal(row, text, source, str(error)) from None


def _refusal(row: Setting, text: str, source: str, reason: str) -> SettingsError:
    return SettingsError(
        f"The setting {row.name} from {_origin(row.name, source)} is {_quoted(row, text)}, "
        "which is refused: "
        f"{reason.rstrip('.')}. Write for example {row.example}, or leave it out."
    )


def _visible_secret(name: str) -> SettingsError:
    return SettingsError(
        f"The setting {name} is a secret, and cannot come from {_origin(name, 'kernelspec')}: "
        "every user of this machine can read that. Take it out, and set the environment variable "
        f"{PREFIX}{name.upper()} or write {name} into the settings file. Who may have seen it "
        "can use it: replace it."
    )


def _shown(row: Setting, text: str) -> str:
    """What may be seen of a setting."""
    return "(set)" if row.is_secret and text else text


def _quoted(row: Setting, text: str) -> str:
    if row.is_secret:
        return "a text that is not shown"
    text = re.sub(r"(//)[^/]*@", r"\1…@", text)  # an address may hold a password
    return repr(text if len(text) <= 200 else text[:200] + "…")


def _origin(name: str, source: str) -> str:
    if source == "kernelspec":
        return f"the kernelspec or command line (--{name.replace('_', '-')})"
    return "the defaults" if source == "default" else f"the {source}"


def _require_known(name: str, source: str) -> None:
    if name not in _ROWS:
        raise SettingsError(
            f"There is no setting {name!r}, which {_origin(name, source)} gives"
            f"{_suggest(name, _ROWS)}. Settings are {', '.join(_ROWS)}."
        )


def _suggest(text: str, names: Any) -> str:
    import difflib

    close = difflib.get_close_matches(text, list(names), n=1)
    return f" (did you mean {close[0]}?)" if close else ""

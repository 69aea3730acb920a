"""Which model is asked, where, and with whose key: settings -> `Endpoint`. Reads no socket.

Rule 1: address and key come from one place. With neither `model_url` nor `model_key` set,
        `OPENAI_BASE_URL` and `OPENAI_API_KEY` count; with either of ours set, neither does:
        a key made for one provider is never sent to another.
Rule 2: a key in a settings file that others can read is refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from sandbox_kernel.errors import SettingsError

if TYPE_CHECKING:
    from sandbox_kernel.settings import Settings

OPENAI_URL = "https://api.openai.com/v1"
_FILE = "settings file "


class Endpoint(NamedTuple):
    """Where a model is. Its repr has no key."""

    model: str
    url: str
    key: str | None
    key_source: str  # where the key came from; "" for none
    is_openai_environment: bool = False  # the rest of OPENAI_… is meant for it too

    def __repr__(self) -> str:
        return f"Endpoint({self.model!r} at {self.url!r}, key {'set' if self.key else 'not set'})"


def find(settings: Settings, environ: Mapping[str, str] | None = None) -> Endpoint:
    """Where the settings' model is.

    Raises:
        SettingsError: no model is named, its key is missing or open to others.
    """
    environ = os.environ if environ is None else environ
    if settings.model is None:
        raise SettingsError(
            "No language model is set. Set SANDBOX_KERNEL_MODEL to its name, or write model into "
            "the settings file; for an endpoint that is not OpenAI's set model_url too."
        )
    if settings.model_url is None and settings.model_key is None:
        return _from_openai(settings.model, environ)
    key = settings.model_key.reveal() if settings.model_key else None
    if key:
        _require_private(settings.sources["model_key"])
    url = settings.model_url or OPENAI_URL
    return _complete(Endpoint(settings.model, url, key, settings.sources["model_key"]))


def _from_openai(model: str, environ: Mapping[str, str]) -> Endpoint:
    url = environ.get("OPENAI_BASE_URL") or OPENAI_URL
    key = environ.get("OPENAI_API_KEY") or None
    source = "environment OPENAI_API_KEY" if key else ""
    return _complete(Endpoint(model, url, key, source, is_openai_environment=True))


def _complete(found: Endpoint) -> Endpoint:
    # Servers on one's own machine mostly want no key; OpenAI's always does.
    if found.key is None and urlsplit(found.url).hostname == urlsplit(OPENAI_URL).hostname:
        raise SettingsError(
            f"The model {found.model} at {found.url} needs a key and none is set. Set "
            "SANDBOX_KERNEL_MODEL_KEY or OPENAI_API_KEY, or write model_key into the settings "
            "file; set model_url for a model of your own."
        )
    return found if found.key else found._replace(key_source="")


def _require_private(source: str) -> None:
    if not source.startswith(_FILE):
        return
    path = source.removeprefix(_FILE)
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # it was read a moment ago; what it is now no longer matters
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SettingsError(
            f"The settings file {path} holds a model's key, and other users may open it (mode "
            f"{stat.S_IMODE(mode):o}). Close it with: chmod 600 {path}"
        )

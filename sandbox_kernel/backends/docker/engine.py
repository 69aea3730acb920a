"""The engine: finding it, asking it, and saying in whole sentences what is wrong with it.

With `sandbox` (which takes the stream) the only place that imports the `docker` SDK.

Rule 1: `docker` is imported in functions: it costs 0.2 s, which a bubblewrap kernel never pays.
Rule 2: every call has a timeout. An engine that hangs is an engine that is gone.
Rule 3: no call here can reach a registry, `pull` excepted, which only `setup` makes.
"""

from __future__ import annotations

import json
import os
import threading
import time
from typing import Any, NamedTuple

from sandbox_kernel.errors import BackendUnavailable

# Creating a container on a loaded machine takes a second; who answers after this is broken.
TIMEOUT_S = 20
# One that only says hello.
PING_TIMEOUT_S = 5
API_VERSION = "1.41"  # Docker 20.10 (December 2020): private cgroup namespaces

_INSTALL = (
    "Start it (`sudo systemctl start docker`), or install Docker Engine; "
    "DOCKER_HOST names one that is elsewhere"
)


def connect(timeout_s: float = TIMEOUT_S) -> Any:
    """A `docker.APIClient` for the engine that DOCKER_HOST or the usual sockets name.

    Raises:
        BackendUnavailable: there is none, or it does not let us in; with the remedy.
    """
    import docker

    class Client(docker.APIClient):  # type: ignore[misc]
        # `requests` would take proxies, passwords and authorities from the environment, and
        # REQUESTS_CA_BUNDLE even in place of the certificate that DOCKER_CERT_PATH names.
        trust_env = property(lambda self: False, lambda self, value: None)

    try:
        arguments = docker.utils.kwargs_from_env()
        arguments.setdefault("base_url", _usual_socket())
        is_ssh = str(arguments["base_url"] or "").startswith("ssh://")
        return Client(version="auto", timeout=timeout_s, use_ssh_client=is_ssh, **arguments)
    except Exception as error:  # docker, requests, paramiko, ssl and OSError: all say one thing
        raise unavailable(error) from None


def _usual_socket() -> str | None:
    """Where an engine listens when nobody says: root's, then this user's own."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    candidates = ["/var/run/docker.sock", "/run/podman/podman.sock"]
    if runtime:
        candidates += [f"{runtime}/docker.sock", f"{runtime}/podman/podman.sock"]
    found = [path for path in candidates if os.path.exists(path)]
    usable = [path for path in found if os.access(path, os.R_OK | os.W_OK)]
    chosen = (usable or found or candidates)[0]
    return f"unix://{chosen}"


def place() -> str:
    """Where we look for the engine, for a reader."""
    return os.environ.get("DOCKER_HOST") or str(_usual_socket())


def unavailable(error: BaseException) -> BackendUnavailable:
    """What an error on the way to the engine means, and what to do about it."""
    text = _root_cause(error)
    where = place()
    if "Permission denied" in text or "PermissionError" in text:
        return BackendUnavailable(
            f"The engine's socket {where} does not let this user in. Add yourself to its group "
            "(`sudo usermod -aG docker $USER`, then log in again; who is in it is root on this "
            "machine), or use a rootless engine."
        )
    if "timed out" in text or "Timeout" in text:
        return BackendUnavailable(
            f"The engine at {where} does not answer. Restart it, then run the cell again."
        )
    if "SSHHTTPAdapter" in text or "paramiko" in text:
        return BackendUnavailable(
            f"An engine behind SSH ({where}) needs a package that is not here. Install it with: "
            "pip install 'sandbox-kernel[ssh]'"
        )
    is_plain = "400 Client Error" in text and where.startswith("tcp://")
    if is_plain or any(word in text for word in ("SSL", "TLS", "certificate")):
        return BackendUnavailable(
            f"The engine at {where} and this client do not know each other ({text}). Set "
            "DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the directory with ca.pem, cert.pem "
            "and key.pem for it."
        )
    return BackendUnavailable(f"There is no engine at {where} ({text}). {_INSTALL}.")


def _root_cause(error: BaseException) -> str:
    """The innermost reason, in one line."""
    seen: BaseException = error
    while seen.__cause__ is not None or seen.__context__ is not None:
        seen = seen.__cause__ or seen.__context__ or seen
    text = f"{type(seen).__name__}: {seen}" if str(seen) else type(seen).__name__
    return " ".join(text.split())[:200]


class Event(NamedTuple):
    """Something that happened to a container."""

    action: str  # "start", "oom", "kill", "stop", "die", "destroy", ...
    exit_code: int | None  # of "die"
    time_ns: int = 0  # by the engine's clock


def _event(item: dict[str, Any]) -> Event:
    code = str(item.get("Actor", {}).get("Attributes", {}).get("exitCode", ""))
    # Podman's name for the end of a container.
    action = {"died": "die", "remove": "destroy"}.get(item["Action"], item["Action"])
    exit_code = int(code) if code.isdigit() else None
    return Event(str(action), exit_code, int(item.get("timeNano") or 0))


def _seconds(text: str) -> float:
    """An engine's time, such as 2026-01-31T12:00:00.123456789Z; 0 when it is none."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


class Engine:
    """One engine's client for the whole process, made at first use. Thread-safe.

    Args:
        timeout_s: for what takes longest, the start of a container.
    """

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        self._lock = threading.Lock()
        self._api: Any = None
        self._pinger: Any = None
        self._info: dict[str, Any] = {}
        self._asked_s = self._its_clock_s = 0.0

    def api(self) -> Any:
        """The `docker.APIClient`.

        Raises:
            BackendUnavailable: no engine.
        """
        with self._lock:
            if self._api is None:
                self._api = connect(self.timeout_s)
            return self._api

    def info(self) -> dict[str, Any]:
        """What `docker info` says; asked once.

        Raises:
            BackendUnavailable: no engine.
        """
        if not self._info:
            try:
                self._asked_s = time.time()
                self._info = self.api().info()
                self._its_clock_s = _seconds(str(self._info.get("SystemTime") or ""))
            except BackendUnavailable:
                raise
            except Exception as error:  # as in `connect`
                self.forget()
                raise unavailable(error) from None
        return self._info

    def is_local(self) -> bool:
        """Whether its machine is ours, as far as its address tells: paths mean the same."""
        return place().startswith(("unix://", "http+unix://", "npipe://"))

    def answers(self) -> bool:
        """Whether it still speaks, within `PING_TIMEOUT_S`."""
        try:
            if self._pinger is None:
                self._pinger = connect(PING_TIMEOUT_S)
            return bool(self._pinger.ping())
        except Exception:  # the SDK's and BackendUnavailable: no answer is an answer
            self._pinger = None
            return False

    def events_of(self, container_id: str, since_s: float) -> list[Event] | None:
        """What became of a container, oldest first; None: the engine does not answer.

        The engine keeps its last 256 events, so ask soon. `since_s`: our clock's.
        """
        try:
            skew_s = self._skew_s()
            api, filters = self.api(), {"container": [container_id], "type": ["container"]}
            # The SDK's own method would wait for ever for an engine that hangs.
            answer = api._get(
                api._url("/events"),
                params={
                    "since": since_s + skew_s - 1,
                    "until": time.time() + skew_s,
                    "filters": json.dumps(filters),
                },
                stream=True,
                timeout=PING_TIMEOUT_S,
            )
            api._raise_for_status(answer)
            found = api._stream_helper(answer, decode=True)
            return [_event(item) for item in found]
        except Exception:  # as in `answers`
            self.forget()
            return None

    def our_time_s(self, time_ns: int) -> float:
        """A time of its events by the clock of this machine."""
        return time_ns / 1e9 - self._skew_s()

    def _skew_s(self) -> float:
        """Its clock less ours; `info` was read not long after `_asked_s`."""
        self.info()
        return self._its_clock_s - self._asked_s if self._its_clock_s else 0.0

    def remove(self, container_id: str) -> None:
        """Kill and remove a container, and return when it is gone.

        Raises:
            docker.errors.APIError, requests.RequestException: the engine can't.
        """
        from docker.errors import APIError, NotFound

        try:
            self.api().remove_container(container_id, force=True, v=True)
        except NotFound:
            return
        except APIError as error:
            # It removes the container by itself when that ends, and may be at it already.
            if error.status_code != 409 or not self._is_removed(container_id):
                raise

    def _is_removed(self, container_id: str) -> bool:
        from docker.errors import NotFound

        end_s = time.monotonic() + PING_TIMEOUT_S
        while time.monotonic() < end_s:
            try:
                self.api().inspect_container(container_id)
            except NotFound:
                return True
            time.sleep(0.01)
        return False

    def update(self, container_id: str, changes: dict[str, Any]) -> None:
        """`POST /containers/ID/update`. The SDK's own method does not know NanoCpus.

        Raises:
            docker.errors.APIError: the engine refuses.
        """
        api = self.api()
        answer = api._post_json(api._url("/containers/{0}/update", container_id), data=changes)
        api._raise_for_status(answer)

    def forget(self) -> None:
        """Connect anew next time: the engine went away, or is another one."""
        with self._lock:
            self._api, self._info = None, {}

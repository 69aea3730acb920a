"""What a kernelspec starts: `python -m sandbox_kernel.kernel -f CONNECTION_FILE [--setting …]`.

Rule 1: the sandbox is launched before zmq and asyncio are imported, so that host and
        guest start side by side; and its launcher before anything at all is imported.
Rule 2: wrong settings start no sandbox; the kernel comes up all the same, and says what
        is wrong where the reader is: in the notebook.
"""

from __future__ import annotations

import sys

from sandbox_kernel.backends.bubblewrap import head_start

if __name__ == "__main__" and head_start.is_likely(sys.argv):
    head_start.begin()

import signal
from typing import TYPE_CHECKING, Any

from sandbox_kernel.errors import ConnectionFileError, SandboxKernelError, SettingsError
from sandbox_kernel.kernel import argv, connection
from sandbox_kernel.kernel.log import log

if TYPE_CHECKING:
    from sandbox_kernel.backends.base import Backend, Sandbox, SandboxSpec
    from sandbox_kernel.dependencies.manager import Dependencies
    from sandbox_kernel.kernel.server import Server
    from sandbox_kernel.settings import Settings


def main() -> int:
    """Run the kernel; returns the exit code."""
    # A function, not SIG_IGN: children inherit that, and no cell would see KeyboardInterrupt.
    signal.signal(signal.SIGINT, lambda *_: None)
    arguments = argv.parse(sys.argv[1:])
    prepared = _prepare(arguments)
    head_start.drop()  # another backend, or wrong settings
    if prepared.failure is not None:
        log(str(prepared.failure))
    try:
        return _serve(arguments, prepared)
    finally:
        if prepared.sandbox is not None:
            prepared.sandbox.kill()  # when there is no server, nobody else does


def _serve(arguments: argv.Arguments, prepared: _Prepared) -> int:
    try:
        where = connection.read(arguments.connection_file)
    except ConnectionFileError as error:
        log(str(error))
        return 1
    from sandbox_kernel.kernel.server import serve  # zmq and asyncio come in here

    return serve(lambda: _server(where, prepared))


class _Prepared:
    """What is there when the server is made."""

    settings: Settings | None = None
    backend: Backend | None = None
    spec: SandboxSpec | None = None
    packages: Dependencies | None = None
    sandbox: Sandbox | None = None
    failure: SandboxKernelError | None = None


def _prepare(arguments: argv.Arguments) -> _Prepared:
    """Settings, and a sandbox on its way up; or why there is none."""
    prepared = _Prepared()
    try:
        prepared.settings = _settings(arguments)
        _launch(prepared, prepared.settings)
    except SettingsError as error:
        prepared.failure = error
    return prepared


def _settings(arguments: argv.Arguments) -> Settings:
    from sandbox_kernel.settings import Settings

    if arguments.missing:
        raise SettingsError(
            f"The option --{arguments.missing} has no value. Write --{arguments.missing}=VALUE "
            "in the kernelspec."
        )
    return Settings.load(arguments.options)


def _launch(prepared: _Prepared, settings: Settings) -> None:
    from sandbox_kernel import backends
    from sandbox_kernel.errors import BackendUnavailable
    from sandbox_kernel.kernel.dependencies import at_start
    from sandbox_kernel.provision import provision, spec_from

    plain, backend = spec_from(settings), backends.get(settings.backend)
    spec, prepared.packages = at_start(backend, plain, settings)
    prepared.spec, prepared.backend = plain, backend
    try:
        prepared.sandbox = provision(backend, spec)
    except BackendUnavailable as error:
        # Not the end: the session tries again with every cell, and every cell says this.
        log(str(error))


def _server(where: connection.Connection, prepared: _Prepared) -> Server:
    from sandbox_kernel import backends, languages
    from sandbox_kernel.kernel.requests import Inside
    from sandbox_kernel.kernel.server import Server

    settings = prepared.settings
    if settings is None or prepared.backend is None or prepared.spec is None:
        return Server(where, Inside(None, prepared.failure, languages.PYTHON, "", _nothing))
    from sandbox_kernel.kernel.dependencies import Packages
    from sandbox_kernel.outputs import OutputPolicy
    from sandbox_kernel.session import SandboxSession

    hears: list[Server] = []
    plain, made = prepared.spec, prepared.packages
    session = SandboxSession(
        prepared.backend,
        made.applied(plain) if made is not None else plain,
        policy=settings.outputs,
        on_event=lambda event: hears[0].hear(event),
        sandbox=prepared.sandbox,
    )
    language = languages.get(settings.language)
    # The guest's Python is the host's own unless another one was named, or an image has its own.
    is_ours = backends.shows_host(settings.backend) and not settings.python
    version = sys.version.split()[0] if is_ours and language is languages.PYTHON else ""
    admit = OutputPolicy(settings.outputs).admit_bundle
    packages = Packages(session, plain, settings, made)
    inside = Inside(session, None, language, version, admit, packages, settings.is_shared, settings)
    server = Server(where, inside)
    hears.append(server)
    return server


def _nothing(_data: Any, _metadata: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The output policy of a kernel without a sandbox."""
    return {}, {}


if __name__ == "__main__":
    sys.exit(main())

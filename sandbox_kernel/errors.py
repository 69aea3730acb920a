"""Every exception this package raises on the host.

SandboxKernelError
├── SettingsError            a flag, variable or file says something we cannot obey
├── ConnectionFileError      the connection file is missing, unreadable or not one
├── BackendUnavailable       not installed, or this machine forbids it
├── SandboxDied              the guest went away while we needed it
├── SessionClosed            the caller uses a session that it closed
├── SessionLimitReached      an engine has as many sessions as it may have
├── NoSuchSession            an engine has no session with that id
├── CodeFailed               `Result.raise_for_error` of code that failed inside
├── GuestProtocolError       the guest sent bytes that are not our protocol
├── RequestRefused           the guest answered a request with a refusal
├── ToolError                a host tool has something to say to the cell that called it
├── DependencyRefused        a package that may not be asked for, or is none
├── DependencyFailed         a package that could not be installed
├── ExtraMissing             an optional library is not installed
├── ModelUnavailable         a language model that did not answer, or not usefully
└── FileRefused              a file we will not read, write or show
    └── FileTooLarge         over the limit that the message names

User code that raises is not here: it is an `events.CellFailed`, because the
cell failed and we did not. A new leaf needs a remedy no other leaf has.
"""


class SandboxKernelError(Exception):
    """Base of all of this package's errors. `str(error)` is whole sentences with the remedy."""


class SettingsError(SandboxKernelError):
    """A flag, variable or file says something we cannot obey. Remedy: correct the named value."""


class ConnectionFileError(SandboxKernelError):
    """The connection file is missing, unreadable or not one. Remedy: start through a client."""


class BackendUnavailable(SandboxKernelError):
    """Nothing can isolate here. Remedy: install or allow what the message names."""


class SandboxDied(SandboxKernelError):
    """The guest went away while we needed it. Remedy: run the cell again in a new sandbox."""


class SessionClosed(SandboxKernelError):
    """The session was closed before. Remedy: create another one."""


class SessionLimitReached(SandboxKernelError):
    """An engine has all the sessions it may have. Remedy: close one, or wait for a place."""


class NoSuchSession(SandboxKernelError):
    """No session has that id. Remedy: create one, or list those that there are."""


class CodeFailed(SandboxKernelError):
    """Code failed inside and the caller wanted an exception. Remedy: correct the code.

    `result` is the whole `engine.Result`.
    """

    def __init__(self, message: str, result: object = None) -> None:
        super().__init__(message)
        self.result = result


class GuestProtocolError(SandboxKernelError):
    """The guest sent bytes that are not our protocol. Remedy: the sandbox is replaced."""


class RequestRefused(SandboxKernelError):
    """The guest could not do what was asked, and says why. Remedy: ask for something else."""


class ToolError(SandboxKernelError):
    """A host tool did not do what a cell asked of it. Remedy: call it as the message says.

    Functions that are offered as tools raise it with words that are meant for the cell.
    """


class DependencyRefused(SandboxKernelError):
    """A package that may not be asked for. Remedy: ask for another, or its owner for leave."""


class DependencyFailed(SandboxKernelError):
    """A package could not be installed, and why. Remedy: correct its name, version or index."""


class ExtraMissing(SandboxKernelError):
    """An optional library is not installed. Remedy: install the extra that the message names."""


class ModelUnavailable(SandboxKernelError):
    """A language model did not answer. Remedy: correct its settings, or ask again later."""


class FileRefused(SandboxKernelError):
    """A file we will not read, write or show. Remedy: choose another name or place."""


class FileTooLarge(FileRefused):
    """A file is over the limit that the message names. Remedy: raise the limit or split it."""

"""A session: one sandbox, its state, and the verbs execute, interrupt, restart, close.

Adapters (the Jupyter kernel, the command line) know only this package and `events`.

    session   the verbs
    life      one sandbox at a time: started, heard, replaced
    run       one cell on its way, and the ladder that ends what won't end
    runners   the languages beside the session's own
    cell_limits   limits for one cell only
    guest     one live sandbox: the stream, requests and answers
    files     files of the workspace
    ports     servers inside, reachable on this machine; connections   the bytes to them
    gate      guest events -> events that may be shown; the output policy at work
    tools     functions of the host's that cells may call (tool_calls, tool_functions)
    causes    the sentences that say which limit ended a cell, and what survived

Rule 1: what leaves here by `on_event` has passed the gate. Nothing goes around it.
Rule 2: user code that fails is an `Outcome`; exceptions are for our own failures.
Rule 3: a sandbox that is gone is replaced, never repaired, and the reader is told.
"""

from sandbox_kernel.session.files import FileEntry, Files
from sandbox_kernel.session.life import State
from sandbox_kernel.session.run import Outcome
from sandbox_kernel.session.session import SandboxSession

__all__ = ["FileEntry", "Files", "Outcome", "SandboxSession", "State"]

"""Sandboxes by bubblewrap: the host's own Python environment, read-only, nothing to set up.

In the order of a start: `backend` (launch) makes a `plan` from an `environment`, with a
`seccomp` filter and `cgroups`; `launcher` and `confine` run in a process of their own and
end in bwrap; `sandbox` is the host's end of it and `diagnosis` its words.
"""

from sandbox_kernel.backends.bubblewrap.backend import BubblewrapBackend
from sandbox_kernel.backends.bubblewrap.sandbox import BubblewrapSandbox

__all__ = ["BubblewrapBackend", "BubblewrapSandbox"]

"""What the bridge is started with. Pure but for looking a kernelspec up.

    <display name> <programs, joined by spaces> <remedy> [options] <argv of the kernel>

The kernel's argv has `{connection_file}` in it. Options come first and say what a
kernelspec says beside its argv:

    --interrupt=signal     SIGINT reaches the kernel, which is in our process group (default)
    --interrupt=message    the kernel ignores SIGINT and gets an `interrupt_request`. For
                           kernels that want it so, and for those that SIGINT kills
    --transport=tcp        on the sandbox's own loopback, for kernels without unix sockets
    --fence=CODE           for kernels whose idle overtakes what a cell shows: run silently
                           after each cell, it publishes a message of the type
                           `sandbox_fence`, which all of that comes before
    --output=own           the kernel itself publishes what comes from its descriptors 1
                           and 2, and writes it there, too: shown once
    --attach=ECO:CODE      run silently when packages of that ecosystem were installed for
                           the running session; {path}, quoted, is where
    --env=NAME=VALUE       a variable of the kernel's environment; again for each
    --kernelspec=NAME      all of that from the kernelspec NAME of this guest; no argv then
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

_IPYKERNEL = ("ipykernel_launcher", "ipykernel")
_MAX_SPEC_BYTES = 1024 * 1024


class Unusable(Exception):
    """What was asked for cannot be started; the text says why."""


class Command:
    """How to start one kernel."""

    def __init__(self, arguments: "List[str]") -> None:
        self.display_name, programs, self.remedy = arguments[:3]
        self.programs = programs.split()
        self.is_interrupted_by_message = False
        self.has_tcp = self.has_own_output = False
        self.fence = ""
        self.attach: Dict[str, str] = {}  # ecosystem -> code
        self.environment: Dict[str, str] = {}
        self.kernelspec = ""
        rest = arguments[3:]
        while rest and rest[0].startswith("--"):
            self._take_option(rest.pop(0))
        self.argv = rest

    def _take_option(self, option: str) -> None:
        name, _, value = option.partition("=")
        if name == "--interrupt":
            self.is_interrupted_by_message = value == "message"
        elif name == "--transport":
            self.has_tcp = value == "tcp"
        elif name == "--fence":
            self.fence = value
        elif name == "--attach":
            key, _, code = value.partition(":")
            self.attach[key] = code
        elif name == "--output":
            self.has_own_output = value == "own"
        elif name == "--env":
            key, _, text = value.partition("=")
            self.environment[key] = text
        elif name == "--kernelspec":
            self.kernelspec = value
        else:
            raise ValueError("There is no option %s." % name)

    def resolve(self) -> None:
        """Fill in what a named kernelspec says, and what is known of kernels.

        Raises:
            Unusable: there is no such kernelspec, or it says nothing.
        """
        if self.kernelspec:
            self._read_kernelspec()
        for index, item in enumerate(self.argv[:-1]):
            if item == "-m" and self.argv[index + 1] in _IPYKERNEL:
                self.argv[index : index + 2] = [os.path.dirname(__file__) + "/start_ipykernel.py"]
                self.has_own_output = True
                return

    def _read_kernelspec(self) -> None:
        directory = find_kernelspec(self.kernelspec)
        if directory is None:
            raise Unusable("There is no Jupyter kernel %r in this sandbox." % self.kernelspec)
        spec = _read(directory)
        argv = spec.get("argv")
        if not isinstance(argv, list) or not argv or not all(isinstance(a, str) for a in argv):
            raise Unusable("The kernelspec %r names no command." % self.kernelspec)
        self.argv = [item.replace("{resource_dir}", directory) for item in argv]
        if self.argv[0] in ("python", "python3"):  # whoever reads the kernelspec, says Jupyter
            self.argv[0] = sys.executable
        self.is_interrupted_by_message = spec.get("interrupt_mode") == "message"
        environment = spec.get("env")
        for key, text in environment.items() if isinstance(environment, dict) else ():
            self.environment[str(key)] = str(text)


def find_kernelspec(name: str) -> "Optional[str]":
    """The directory of the kernelspec `name`, as Jupyter looks for it."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    places = [
        *os.environ.get("JUPYTER_PATH", "").split(os.pathsep),
        os.path.join(data, "jupyter"),
        # Of a virtual environment, which `sys.prefix` does not know without site-packages.
        os.path.join(os.path.dirname(os.path.dirname(sys.executable)), "share/jupyter"),
        os.path.join(sys.prefix, "share/jupyter"),
        "/usr/local/share/jupyter",
        "/usr/share/jupyter",
    ]
    for place in filter(None, places):
        directory = os.path.join(place, "kernels", name)
        if os.path.isfile(os.path.join(directory, "kernel.json")):
            return directory
    return None


def _read(directory: str) -> "Dict[str, Any]":
    import json

    try:
        with open(os.path.join(directory, "kernel.json"), encoding="utf-8") as file:
            spec = json.loads(file.read(_MAX_SPEC_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise Unusable("The kernelspec in %s cannot be read: %s." % (directory, error)) from None
    return spec if isinstance(spec, dict) else {}

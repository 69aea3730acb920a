"""What is known of one language. Vocabulary: no I/O, and light: every kernel imports it.

A language runs in one of four ways, the first that it names:

1. `runner`: a runner of its own, in Python (Python itself, SQL);
2. `interpreter`: a long-lived interpreter with one file of ours, behind the adapter;
3. `native_kernel`: any Jupyter kernel inside the guest, behind the bridge;
4. `command`: one command a cell, for every language that has no more than a program.
   Files persist then, variables don't. It is also all that works without Python 3 inside.
"""

from __future__ import annotations

from typing import Any, NamedTuple

_COMMAND = ("{python}", "{guest}/runners/command/__main__.py")
# Isolated and without site-packages: the adapter needs neither, and starts sooner.
_INTERPRETER = ("{python}", "-I", "-S", "{guest}/runners/interpreter/__main__.py")
_BRIDGE = ("{python}", "-I", "-S", "{guest}/bridge/__main__.py")
_IN_IMAGE = (
    "In a container it has to be in the image; sandbox-kernel/polyglot has all languages: "
    "sandbox-kernel setup docker --language polyglot."
)


class Language(NamedTuple):
    """How to run one language, and how front ends show it.

    Args:
        name: lower case; the kernelspec is `sandbox-<name>`.
        image: the image that backends with images use when nobody names one.
        command: argv that runs one file of code, for which `{file}` stands.
        alternatives: programs that do as well where the command's own is missing.
        simple_alternatives: those of them that only run single commands: no `interpreter`.
        opening: what a file has to begin with to be code; put before cells that don't.
        kernel_language: what Jupyter calls it, when that is not `name`.
        runner: argv of its own runner inside the guest: `{python}` stands for the guest's
            Python 3 and `{guest}` for the directory of the supervisor.
        interpreter: what follows the program in the argv of its interpreter: our file.
        native_kernel: argv of a Jupyter kernel in the guest, with `{connection_file}`.
        code_file: what one file of code is called, "" for `code` and the extension.
        app_command: argv that runs a project from its entry `{file}`; () for `command`.
        ecosystem: where its packages come from: "pip", "npm", "gem", "cran" or "".
        aliases: other names for `%%` cells.
        remedy: how a reader gets the programs where they are missing.
    """

    name: str
    display_name: str
    file_extension: str
    mimetype: str
    codemirror_mode: str | dict[str, Any]
    pygments_lexer: str
    image: str
    command: tuple[str, ...]
    alternatives: tuple[str, ...] = ()
    simple_alternatives: tuple[str, ...] = ()
    opening: str = ""
    kernel_language: str = ""
    runner: tuple[str, ...] = ()
    interpreter: tuple[str, ...] = ()
    native_kernel: tuple[str, ...] = ()
    code_file: str = ""
    app_command: tuple[str, ...] = ()
    ecosystem: str = ""
    aliases: tuple[str, ...] = ()
    remedy: str = ""

    @property
    def programs(self) -> tuple[str, ...]:
        """The programs that can run it, the best one first."""
        return (self.command[0], *self.alternatives)

    @property
    def jupyter_name(self) -> str:
        """What kernelspecs and `kernel_info` call it."""
        return self.kernel_language or self.name

    @property
    def has_state(self) -> bool:
        """Whether variables live from cell to cell (where the guest has Python 3)."""
        return bool(self.runner or self.interpreter or self.native_kernel)

    @property
    def file_name(self) -> str:
        """What a file with its code is called."""
        return self.code_file or f"code{self.file_extension}"

    @property
    def runner_argv(self) -> tuple[str, ...]:
        """The argv of what runs its cells inside the guest, placeholders left in."""
        programs = " ".join(self.programs)
        if self.runner:
            return self.runner
        if self.interpreter:
            programs = " ".join(p for p in self.programs if p not in self.simple_alternatives)
            return (*_INTERPRETER, self.display_name, programs, self.remedy, *self.interpreter)
        if self.native_kernel:
            return (*_BRIDGE, self.display_name, programs, self.remedy, *self.native_kernel)
        how = (self.display_name, self.file_extension, self.opening, programs)
        return (*_COMMAND, *how, *self.command[1:])

    def in_image(self) -> Language:
        """This, for a guest that sees an image: what is installed on the host is not there."""
        return self._replace(remedy=f"{self.remedy} {_IN_IMAGE}".lstrip())

    def run_command(self, entry: str = "") -> tuple[str, ...]:
        """argv that runs a file of code, or the project that `entry` starts."""
        argv = (self.app_command or self.command) if entry else self.command
        file = entry or self.file_name
        return tuple(item.replace("{file}", file) for item in argv)

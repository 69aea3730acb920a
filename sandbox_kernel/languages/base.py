"""What is known of one language. Vocabulary: no I/O, and light: every kernel imports it."""

from __future__ import annotations

from typing import Any, NamedTuple

_COMMAND_RUNNER = "{guest}/runners/command/__main__.py"


class Language(NamedTuple):
    """How to run one language, and how front ends show it.

    Args:
        runner: argv of its runner inside the guest: `{python}` stands for the guest's
            Python 3 and `{guest}` for the directory of the supervisor.
        image: the image that backends with images use when nobody names one.
        command: argv that runs one file of code, for which `{file}` stands: all that is
            done in an image without Python 3.
        alternatives: programs that do as well where the command's own is missing.
        opening: what a file has to begin with to be code; put before cells that don't.
        kernel_language: what Jupyter calls it, when that is not `name`.
    """

    name: str
    display_name: str
    file_extension: str
    mimetype: str
    codemirror_mode: str | dict[str, Any]
    pygments_lexer: str
    runner: tuple[str, ...]
    image: str
    command: tuple[str, ...]
    alternatives: tuple[str, ...] = ()
    opening: str = ""
    kernel_language: str = ""

    @property
    def programs(self) -> tuple[str, ...]:
        """The programs that can run it, the best one first."""
        return (self.command[0], *self.alternatives)

    @property
    def jupyter_name(self) -> str:
        """What kernelspecs and `kernel_info` call it."""
        return self.kernel_language or self.name


def with_command_runner(language: Language) -> Language:
    """`language`, run as one command a cell in images with Python 3, too."""
    how = (
        language.display_name,
        language.file_extension,
        language.opening,
        " ".join(language.programs),
    )
    return language._replace(runner=("{python}", _COMMAND_RUNNER, *how, *language.command[1:]))

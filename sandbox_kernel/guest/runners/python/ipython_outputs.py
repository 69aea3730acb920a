"""Where IPython shows things: results, displays, and the two names that end a cell."""

from typing import Any, Optional

from IPython.core.autocall import ExitAutocall
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher

from .base_shell import Json


class SandboxDisplayHook(DisplayHook):  # type: ignore[misc]
    """Shows the value of a cell's last expression as a RESULT frame."""

    output: Any = None
    _bundle: Optional[Json] = None
    _metadata: Any = None

    is_showing = False

    def start_displayhook(self) -> None:
        """Called before the value's forms are made."""
        super().start_displayhook()
        self.is_showing = True

    def quiet(self) -> bool:
        """Whether the cell ends with a semicolon; tokenizes only those that have one."""
        inputs = self.shell.history_manager.input_hist_parsed
        return bool(inputs and ";" in inputs[-1] and super().quiet())

    def write_output_prompt(self) -> None:
        """The host writes `Out[n]`."""

    def write_format_data(self, format_dict: Json, md_dict: Any = None) -> None:
        """Keep what is to be shown until `finish_displayhook`."""
        self._bundle, self._metadata = format_dict, md_dict

    def update_user_ns(self, result: Any) -> None:
        """`_` and `Out`, but not for a cell that has no number: it would take another's."""
        if self.shell.is_stored:
            super().update_user_ns(result)

    def finish_displayhook(self) -> None:
        """Show it."""
        bundle, self._bundle = self._bundle, None
        if bundle and self.output is not None:
            self.output.result(bundle, self._metadata or {})
        self._is_active = self.is_showing = False


class SandboxDisplayPublisher(DisplayPublisher):  # type: ignore[misc]
    """Shows what `display()` is given as DISPLAY frames."""

    output: Any = None

    def publish(
        self,
        data: Json,
        metadata: Optional[Json] = None,
        source: Any = None,
        *,
        transient: Optional[Json] = None,
        update: bool = False,
        **_more: Any,
    ) -> None:
        """Called by IPython for every rich output."""
        self._validate_data(data, metadata)
        if self.output is not None:
            self.output.show(data, metadata or {}, transient or {}, update)

    def clear_output(self, wait: bool = False) -> None:
        """Called by `IPython.display.clear_output`."""
        if self.output is not None:
            self.output.clear(wait)


class Exiter(ExitAutocall):  # type: ignore[misc]
    """`exit` and `quit`: they end the cell as `sys.exit` does; the runner lives on."""

    def __call__(self, code: Any = None, **_options: Any) -> None:
        """Raise SystemExit."""
        raise SystemExit(code)

"""Remembers which files hold a picture that the same cell also displays.

`plt.savefig("chart.png"); plt.show()` makes one chart twice: as a file and inline. The
bytes differ (margins, metadata), so only who drew both can tell. A display says
which files show the same, and the host leaves those out after the cell. What a hostile
cell says here hides files of its own from its reader, no more.
"""

import os
from typing import Any, Dict, List, Tuple
from weakref import WeakKeyDictionary

# A loop may save a thousand versions of one figure; a display names the last ones.
_MAX_FILES = 20
_MAX_RENDERED = 50


class Pictures:
    """Watches `FigureCanvasBase.print_figure`, which saving and displaying both call."""

    def __init__(self, workspace: str) -> None:
        self._workspace = os.path.realpath(workspace)
        # A weak key: remembering a figure must not keep it alive.
        self._saved: Any = WeakKeyDictionary()
        self._rendered: Dict[int, Tuple[str, ...]] = {}

    def watch(self) -> None:
        """Called right after matplotlib.backend_bases was imported."""
        from matplotlib.backend_bases import FigureCanvasBase

        print_figure = FigureCanvasBase.print_figure

        def watched(canvas: Any, filename: Any, *args: Any, **options: Any) -> Any:
            done = print_figure(canvas, filename, *args, **options)
            if isinstance(filename, (str, os.PathLike)):
                self._note_saved(canvas.figure, os.fspath(filename))
            elif canvas.figure in self._saved:
                self._note_rendered(canvas.figure, filename)
            return done

        watched.__name__, watched.__doc__ = "print_figure", print_figure.__doc__
        FigureCanvasBase.print_figure = watched  # type: ignore[method-assign, assignment]

    def start_cell(self) -> None:
        """What earlier cells saved was shown after them."""
        self._saved.clear()
        self._rendered.clear()

    def files_of(self, data: Dict[str, Any]) -> List[str]:
        """Names in the workspace of files that show what the bundle `data` shows."""
        if not self._rendered:
            return []
        picture = data.get("image/png")
        if isinstance(picture, str):
            from binascii import a2b_base64

            picture = a2b_base64(picture)
        return list(self._rendered.get(hash(picture), ())) if isinstance(picture, bytes) else []

    def _note_saved(self, figure: Any, path: Any) -> None:
        if not isinstance(path, str):
            return
        name = os.path.relpath(os.path.realpath(path), self._workspace)
        if not name.startswith(".."):
            names = [known for known in self._saved.get(figure, []) if known != name]
            self._saved[figure] = [*names, name][-_MAX_FILES:]

    def _note_rendered(self, figure: Any, buffer: Any) -> None:
        content = getattr(buffer, "getvalue", bytes)()
        if isinstance(content, bytes) and len(self._rendered) < _MAX_RENDERED:
            self._rendered[hash(content)] = tuple(self._saved[figure])

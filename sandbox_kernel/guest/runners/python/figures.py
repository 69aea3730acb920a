"""A matplotlib backend for guests without IPython: figures appear after their cell.

matplotlib imports this as `module://…figures`, as `rcParams["backend"]` tells it.
"""

import io
from typing import Any

from matplotlib._pylab_helpers import Gcf
from matplotlib.backends import backend_agg

FigureCanvas = backend_agg.FigureCanvasAgg
FigureManager = backend_agg._BackendAgg.FigureManager
new_figure_manager = backend_agg.new_figure_manager
new_figure_manager_given_figure = backend_agg.new_figure_manager_given_figure


def show(*_args: Any, **_options: Any) -> None:
    """Display all open figures, then close them: `plt.show()`, and the end of each cell."""
    import builtins

    managers = Gcf.get_all_fig_managers()
    try:
        for manager in managers:
            builtins.display(manager.canvas.figure)  # type: ignore[attr-defined]
    finally:
        if managers:
            Gcf.destroy_all()


def to_png(figure: Any) -> bytes:
    """The picture as IPython's inline backend makes it."""
    content = io.BytesIO()
    canvas = figure.canvas if hasattr(figure.canvas, "print_png") else FigureCanvas(figure)
    canvas.print_figure(
        content, format="png", bbox_inches="tight", facecolor=figure.get_facecolor()
    )
    return content.getvalue()

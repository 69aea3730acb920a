"""Packages that come while the program runs: directories that are there to be read."""

import sys
from typing import Any, Dict, List


def attach(meta: Dict[str, Any]) -> List[str]:
    """Make the layers that ATTACH names importable.

    Gives the modules that they have and the program has imported before from elsewhere:
    those stay what they are.
    """
    import importlib
    import os

    os.environ.update(meta.get("environment") or {})
    layers = [layer for layer in meta.get("layers") or () if layer.get("ecosystem") == "pip"]
    paths = [str(layer.get("path")) + "/lib" for layer in layers]
    # What lies beside the cells comes first, as when a layer is there from the start.
    place = 1 if sys.path[:1] == [""] else 0
    sys.path[place:place] = [path for path in paths if path not in sys.path]
    importlib.invalidate_caches()
    return sorted({name for path in paths for name in _names(path) if name in sys.modules})


def _names(path: str) -> List[str]:
    """What can be imported from a directory, as far as its files' names say."""
    import os

    try:
        names = os.listdir(path)
    except OSError:
        return []
    return [name.partition(".")[0] for name in names if not name.endswith(("-info", "__"))]


def note(names: List[str]) -> str:
    """For the reader of the next cell."""
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return (
        "[sandbox] Imported before the installation, and unchanged until the kernel is "
        "restarted: %s.\n" % shown
    )

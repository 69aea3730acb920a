"""What an image prepared for every new home: caches that are slow to make, such as font lists.

The home of a container is empty and belongs to nobody before it starts, so the image keeps
these files elsewhere. Other boundaries fill the home themselves, and have no such directory.

Links, not copies: eight megabytes would cost a start 20 ms, and the sandbox their memory.
Who wants to change such a file finds it read-only, like everything of an image.
"""

from __future__ import annotations

import os

PREPARED = "/opt/sandbox-kernel/home"


def furnish(home: str, prepared: str = PREPARED) -> None:
    """Show what is below `prepared` in `home`. What fails is made anew when it is needed."""
    for directory, _, names in os.walk(prepared):
        target = os.path.join(home, os.path.relpath(directory, prepared))
        try:
            os.makedirs(target, mode=0o700, exist_ok=True)
            for name in names:
                _link(os.path.join(directory, name), os.path.join(target, name))
        except OSError:
            return


def _link(source: str, target: str) -> None:
    if not os.path.lexists(target):
        os.symlink(source, target)

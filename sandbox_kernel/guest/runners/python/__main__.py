"""Started as `python {guest}/runners/python/__main__.py`, as a script and not with `-m`.

`-m` would put the guest's folder on `sys.path`, and our modules' names in the way of
the user's. So this makes one private package, `_sandbox_guest`, for the guest's folder.
"""

import gc
import sys


def start() -> None:
    """Import the runner under its private name and serve until the supervisor is gone."""
    here = __file__.rsplit("/", 1)[0]
    package = type(sys)("_sandbox_guest")
    package.__path__ = [here.rsplit("/", 2)[0]]
    sys.modules["_sandbox_guest"] = package
    # A script's folder leads `sys.path`; a notebook has its working directory there.
    if sys.path and sys.path[0].rstrip("/") == here:
        sys.path[0] = ""
    else:
        sys.path.insert(0, "")
    from _sandbox_guest.runners.python.main import main  # type: ignore[import-not-found]

    main()


if __name__ == "__main__":
    # Imports make much and free little: the collector would only look at all of it again.
    gc.disable()
    start()

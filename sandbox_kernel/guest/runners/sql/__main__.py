"""Started as `python {guest}/runners/sql/__main__.py`, as a script: see `runners/python`."""

import sys


def start() -> None:
    """Import the runner under its private name and serve until the supervisor is gone."""
    here = __file__.rsplit("/", 1)[0]
    package = type(sys)("_sandbox_guest")
    package.__path__ = [here.rsplit("/", 2)[0]]
    sys.modules["_sandbox_guest"] = package
    # A script's folder leads `sys.path`: its modules are ours, and no names for anybody else.
    sys.path[:] = [path for path in sys.path if path.rstrip("/") != here]
    from _sandbox_guest.runners.sql.main import main  # type: ignore[import-not-found]

    main()


if __name__ == "__main__":
    start()

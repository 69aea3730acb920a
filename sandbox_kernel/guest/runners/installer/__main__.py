"""Started as `python {guest}/runners/installer/__main__.py` in a builder, and nowhere else.

As in `runners/python`, one private package stands for the guest's folder.
"""

import sys


def start() -> None:
    """Import the runner under its private name and serve until the supervisor is gone."""
    here = __file__.rsplit("/", 1)[0]
    package = type(sys)("_sandbox_guest")
    package.__path__ = [here.rsplit("/", 2)[0]]
    sys.modules["_sandbox_guest"] = package
    from _sandbox_guest.runners.installer.main import main  # type: ignore[import-not-found]

    main()


if __name__ == "__main__":
    start()

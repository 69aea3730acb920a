"""Started as `python {guest}/bridge/__main__.py`, with arguments that `arguments` explains.

As in `runners/command`, one private package stands for the guest's folder.
"""

import sys


def start() -> None:
    """Import the bridge under its private name and serve until the supervisor is gone."""
    here = __file__.rsplit("/", 1)[0]
    package = type(sys)("_sandbox_guest")
    package.__path__ = [here.rsplit("/", 1)[0]]
    sys.modules["_sandbox_guest"] = package
    from _sandbox_guest.bridge.main import main  # type: ignore[import-not-found]

    main(sys.argv[1:])


if __name__ == "__main__":
    start()

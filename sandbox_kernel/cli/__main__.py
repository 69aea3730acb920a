"""`python -m sandbox_kernel.cli`."""

import sys

from sandbox_kernel.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m tools.torture`: see `command`, which the processes that it starts import by its name."""

import sys

from tools.torture.command import main

if __name__ == "__main__":
    sys.exit(main())

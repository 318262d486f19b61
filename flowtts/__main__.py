"""``python -m flowtts`` is the command ``flowtts``."""

import sys

from flowtts.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m omote`` is the command ``omote``."""

import sys

from omote.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

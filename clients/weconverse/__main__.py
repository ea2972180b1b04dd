"""``python -m weconverse``."""

import sys

from weconverse.cli import main

if __name__ == "__main__":
    sys.exit(main())

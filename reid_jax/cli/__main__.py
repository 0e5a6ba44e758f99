"""`python -m reid_jax.cli`: the command, where its script is not on the path."""

import sys

from reid_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())

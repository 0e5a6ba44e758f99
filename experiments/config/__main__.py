"""python -m experiments.config: prints the page docs/config.md."""

from experiments.config import page

print(page(), end="")

"""What JAX compiles is kept on disk, so that the second call of a program begins at once.

As `cpu`, this holds for a whole process: programs and commands call it, the library does not.
"""

from __future__ import annotations

import os

import jax

from reid_jax.files import cache_dir

__all__ = ["keep_compiled"]

LEAST_SECONDS = 0.1
"""What compiles faster is compiled again: JAX's own second leaves out most of what an answer to a
single question takes."""


def keep_compiled() -> None:
    """Keeps compiled functions in the user's cache directory.

    Who has set `JAX_COMPILATION_CACHE_DIR` or `JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS` keeps
    that.
    """
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "compilation"))
    if not os.environ.get("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)

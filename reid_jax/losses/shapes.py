"""Static shape checks shared by the losses."""

from __future__ import annotations

import jax


def require_shapes(**expected: tuple[jax.Array, str]) -> None:
    """Checks named arrays against axis letters, for example `embeddings=(x, "BD")`.

    Raises:
        ValueError: if an array has another number of axes, or a letter stands for two sizes.
    """
    sizes: dict[str, tuple[int, str]] = {}
    for name, (array, letters) in expected.items():
        shape = tuple(array.shape)
        if len(shape) != len(letters):
            raise ValueError(f"{name} has shape {shape}, expected [{', '.join(letters)}].")
        for letter, size in zip(letters, shape, strict=True):
            known, other = sizes.setdefault(letter, (size, name))
            if known != size:
                raise ValueError(
                    f"{name} has shape {shape}: axis {letter} is {size}, but {other} has {known}."
                )

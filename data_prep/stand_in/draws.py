"""Random numbers that are a pure function of what they are for."""

import zlib
from collections.abc import Sequence

import numpy as np

__all__ = ["Draws"]

_WORD = (1 << 64) - 1


class Draws:
    """A stream of random numbers that is a pure function of (seed, purpose, key).

    The numbers are raw Philox bits at a counter that holds the key, so any stream can be read
    without the others, in any process, and a new draw for one purpose never moves another one.
    Only raw bits are used: NumPy keeps those the same from version to version.

    Args:
        seed: any integer; taken modulo 2**64.
        purpose: what the numbers are for, such as "clothes".
        key: up to three integers, such as (identity, camera, index).
    """

    def __init__(self, seed: int, purpose: str, *key: int):
        if len(key) > 3:
            raise ValueError(f"Draws takes at most 3 key numbers, got {len(key)}: {key}.")
        counter = [0, *(number & _WORD for number in key)]
        counter += [0] * (4 - len(counter))
        self._bits = np.random.Philox(
            key=np.array([seed & _WORD, zlib.crc32(purpose.encode())], np.uint64),
            counter=np.array(counter, np.uint64),
        )
        self._ready: list[float] = []

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """One number in [low, high)."""
        if not self._ready:
            self._ready = ((self._bits.random_raw(32) >> np.uint64(11)) * 2.0**-53).tolist()
        return low + (high - low) * self._ready.pop()

    def bell(self, scale: float = 1.0) -> float:
        """One nearly normal number: mean 0, standard deviation `scale`, within 3.5 of them."""
        total = self.uniform() + self.uniform() + self.uniform() + self.uniform()
        return scale * (total - 2.0) * 3.0**0.5

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.uniform() < probability

    def integer(self, end: int) -> int:
        """One integer in [0, end)."""
        return int(self.uniform() * end)

    def pick(self, options: Sequence, weights: Sequence[float] | None = None):
        """One of the options, with probability in proportion to its weight."""
        if weights is None:
            return options[self.integer(len(options))]
        mark = self.uniform() * sum(weights)
        for option, weight in zip(options, weights, strict=True):
            mark -= weight
            if mark < 0:
                return option
        return options[-1]

    def uniforms(self, count: int) -> np.ndarray:
        """[count] float64 in [0, 1)."""
        return (self._bits.random_raw(count) >> np.uint64(11)) * 2.0**-53

    def order(self, count: int) -> np.ndarray:
        """[count] int64, a permutation of 0 .. count - 1."""
        return np.argsort(self._bits.random_raw(count), kind="stable")

    def noise(self, shape: tuple[int, ...]) -> np.ndarray:
        """float32 of this shape, independent, triangular: mean 0, standard deviation 1."""
        count = int(np.prod(shape))
        raw = self._bits.random_raw(-(-count // 4)).astype("<u8").view(np.uint8)
        low, high = raw[0::2][:count], raw[1::2][:count]
        total = low.astype(np.float32) + high.astype(np.float32)
        return ((total - 255.0) / 104.5).reshape(shape)

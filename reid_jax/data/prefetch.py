"""Work done ahead of time on threads."""

import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import cv2
import grain

__all__ = ["prefetch"]

T = TypeVar("T")


def prefetch(first: int, stop: int, make: Callable[[int], T], *, threads: bool) -> Iterator[T]:
    """Gives make(first), ..., make(stop - 1) in order, and makes the next ones meanwhile.

    Args:
        first: number of the first.
        stop: number behind the last.
        make: makes the one of a number; called on threads, each number once.
        threads: up to 16 threads, as many as there are cores; False takes one thread.

    Returns:
        Iterator, which raises what `make` raises.
    """
    # OpenCV's own threads would only compete with these.
    cv2.setNumThreads(1)
    num_threads = min(16, os.cpu_count() or 1) if threads else 1
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
    return iter(grain.MapDataset.range(first, stop).map(make).to_iter_dataset(options))

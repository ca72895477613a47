"""Going through arrays that are maps of files, piece by piece."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray


def read_planes(
    values: NDArray[np.float32], planes: Iterable[int], start: int, stop: int
) -> Iterator[NDArray[np.float32]]:
    """Give the rows [start, stop) of some planes of (F, T, S), one after the other; each until the next is asked for.

    What a file map has taken into this process's memory for a plane is let go of before the next.
    """
    for plane in planes:
        yield values[plane, start:stop]
        release_pages(values)


def release_pages(*arrays: np.ndarray) -> None:
    """Take the pages of file maps out of this process's memory.

    They stay in the page cache, changes included, and come back when they are touched; whoever goes through a large
    file piece by piece then holds one piece. Arrays that are no file maps, or views of none, are left alone, and so
    are maps of mode ``c``: what was written to those is nowhere else.
    """
    for array in arrays:
        pages = _pages(array)
        if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
            pages.madvise(mmap.MADV_DONTNEED)


def _pages(array: np.ndarray) -> mmap.mmap | None:
    """Find the map of a file that an array is a view of, unless it keeps changes to itself."""
    base: object = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and base.mode == "c":
            return None
        base = base.base
    return base if isinstance(base, mmap.mmap) else None

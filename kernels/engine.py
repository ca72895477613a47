"""A set of features ready to run: compiled code, state in lane groups, threads over groups."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kernels.driver import OK, STAGE_PADDING, Job
from kernels.generate import Program, build
from kernels.objects import entry_point
from kernels.reference import first_bad_row, run_reference
from kernels.registry import changes

WIDTH = 8
_DIRECT_TILE = 64
_STAGED_TILE = 16  # bars; more would leave the cache to fewer symbols, and cut rows into shorter pieces
_STAGED_FROM = 2 << 20  # bytes of output; less stays in the caches anyway
# bytes for a stage and the state of its symbols, of a second-level cache of 1 MiB
_CACHE = 768 << 10

Float64 = NDArray[np.float64]


class Engine:
    """Runs one feature set over chunks of bars.

    Parameters
    ----------
    features
        Names, in the order of the outputs.
    width
        Symbols per lane group; any width gives the same bits.
    dtype
        float32, or float64 to see the arithmetic unrounded.
    """

    def __init__(self, features: Sequence[str], width: int = WIDTH, dtype: type = np.float32) -> None:
        self.program: Program = build(features)
        self.width = width
        self.dtype = np.dtype(dtype)
        interpreted = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
        self.entry = None if interpreted else entry_point(self.program, width, self.dtype.itemsize * 8)

    def lanes_of(self, symbols: int) -> int:
        """Symbols, padded to at least one full lane group."""
        return max(symbols, self.width)

    def new_state(self, symbols: int) -> Float64:
        """State before the first bar: (groups, rows, width) float64."""
        groups = -(-self.lanes_of(symbols) // self.width)
        return aligned((groups, self.program.rows, self.width))

    def run(
        self,
        columns: Sequence[Float64],
        clock: Float64,
        state: Float64,
        consumed: int,
        out: NDArray[np.floating],
        threads: int = 1,
    ) -> int:
        """Advance all symbols by the bars given.

        Parameters
        ----------
        columns
            One (T, S) C-contiguous float64 array per name in ``program.columns``, S as `lanes_of` says.
        clock
            (C, T) C-contiguous, per name in ``program.clock``.
        state
            From `new_state`; advanced in place.
        consumed
            Bars consumed before.
        out
            (F, T, S) C-contiguous of the engine's dtype.
        threads
            Threads over lane groups.

        Returns
        -------
        int
            `driver.OK`, or a row that holds a bad bar; then state and out are of no use.
        """
        if self.entry is None:
            return self.interpret(columns, clock, state, consumed, out)
        groups = len(state)
        workers = max(1, min(threads, groups))
        cuts = [groups * i // workers for i in range(workers + 1)]
        parts = list(pairwise(cuts))
        stages = [self._stage(out, b - a) for a, b in parts]
        jobs = [
            self.job(columns, clock, state, consumed, out, groups=part, stage=stage)
            for part, stage in zip(parts, stages, strict=True)
        ]
        if workers == 1:
            return self.entry(jobs[0].ctypes.data)
        with ThreadPoolExecutor(workers) as pool:
            results = list(pool.map(self.entry, [job.ctypes.data for job in jobs]))
        return min((r for r in results if r != OK), default=OK)

    def _block(self, groups: int) -> int:
        """How many of the lane groups share a stage."""
        plane = _STAGED_TILE * self.width * self.dtype.itemsize
        most = _CACHE // (self.program.rows * self.width * 8 + len(self.program.features) * plane)
        # an even share of a line each: where rows are aligned, pieces of them are whole lines
        line = max(64 // (self.width * self.dtype.itemsize), 1)
        return groups if groups <= most else max(most // line, 1) * line

    def _stage(self, out: NDArray[np.floating], groups: int) -> NDArray[np.floating] | None:
        """Buffer for results on their way to memory; None where the caches hold them all."""
        if out.nbytes < _STAGED_FROM:
            return None
        plane = _STAGED_TILE * self._block(groups) * self.width + STAGE_PADDING
        return aligned((len(self.program.features) * plane,), self.dtype, np.empty)

    def job(
        self,
        columns: Sequence[Float64],
        clock: Float64,
        state: Float64,
        consumed: int,
        out: NDArray[np.floating],
        groups: tuple[int, int],
        stage: NDArray[np.floating] | None = None,
    ) -> NDArray[np.int64]:
        """Arguments of the compiled code; the arrays must outlive it."""
        bars, symbols = columns[0].shape
        job = np.zeros(Job.COLUMNS + len(columns), dtype=np.int64)
        job[Job.FIRST_GROUP], job[Job.END_GROUP] = groups
        job[Job.SYMBOLS], job[Job.BARS], job[Job.CONSUMED] = symbols, bars, consumed
        job[Job.TILE] = _DIRECT_TILE if stage is None else _STAGED_TILE
        job[Job.BLOCK] = self._block(groups[1] - groups[0])
        job[Job.STATE], job[Job.CLOCK], job[Job.OUT] = state.ctypes.data, clock.ctypes.data, out.ctypes.data
        job[Job.STAGE] = 0 if stage is None else stage.ctypes.data
        job[Job.COLUMNS :] = [c.ctypes.data for c in columns]
        return job

    def interpret(
        self,
        columns: Sequence[Float64],
        clock: Float64,
        state: Float64,
        consumed: int,
        out: NDArray[np.floating],
    ) -> int:
        """Do as `run` does without compiled code."""
        bad = first_bad_row(self.program, columns)
        if bad is not None:
            return bad
        rows = to_rows(state, columns[0].shape[1])
        out[...] = run_reference(self.program, columns, clock, rows, consumed)
        state[...] = to_groups(rows, self.width)
        return OK


class BarJob:
    """A job over one bar, prepared once and run for every bar that a stream is given.

    Parameters
    ----------
    engine, columns, clock, state
        As for `Engine.run`, the columns (1, S); they stay the same arrays and are filled anew.
    """

    def __init__(self, engine: Engine, columns: list[Float64], clock: Float64, state: Float64) -> None:
        self._engine = engine
        self._arguments = (columns, clock, state)
        nowhere = np.empty((1, 1, 1), dtype=engine.dtype)
        self._job = engine.job(columns, clock, state, 0, nowhere, groups=(0, len(state)))
        self._address = self._job.ctypes.data

    def run(self, consumed: int, out: NDArray[np.floating]) -> int:
        """Advance the state by the bar in the columns; `out` is (F, S). Returns as `Engine.run` does."""
        if self._engine.entry is None:
            return self._engine.interpret(*self._arguments, consumed, out[:, None])
        self._job[Job.CONSUMED] = consumed
        self._job[Job.OUT] = out.ctypes.data
        return self._engine.entry(self._address)


def aligned(
    shape: tuple[int, ...],
    dtype: type | np.dtype = np.float64,
    allocate: Callable[..., NDArray[np.uint8]] = np.zeros,
) -> NDArray:
    """New array that starts at a cache line: a vector of lanes never straddles two, a row of results is whole lines."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = allocate(size + 64, dtype=np.uint8)
    first = -raw.ctypes.data % 64
    return raw[first : first + size].view(dtype).reshape(shape)


def to_rows(state: Float64, symbols: int) -> Float64:
    """(groups, rows, width) to (rows, symbols): the layout that does not depend on the lane width."""
    _, rows, width = state.shape
    result = np.empty((rows, symbols))
    for group, block in enumerate(state):
        lane = min(group * width, max(symbols - width, 0))
        result[:, lane : lane + width] = block[:, : symbols - lane]
    return result


def to_groups(rows: Float64, width: int) -> Float64:
    """(rows, symbols) to (groups, rows, width); padding repeats the first symbol."""
    if rows.shape[1] < width:
        rows = pad(rows, width)
    symbols = rows.shape[1]
    starts = [min(lane, symbols - width) for lane in range(0, symbols, width)]
    return np.stack([rows[:, lane : lane + width] for lane in starts])


def pad(values: Float64, width: int) -> Float64:
    """Repeat the first symbol until there are `width` of them: a copy behaves as its original does."""
    missing = width - values.shape[-1]
    if missing <= 0:
        return values
    return np.concatenate([values, np.repeat(values[..., :1], missing, axis=-1)], axis=-1)


@lru_cache(maxsize=64)
def _engine(features: tuple[str, ...], width: int, dtype: type, _changes: int) -> Engine:
    return Engine(features, width, dtype)


def engine_for(features: Sequence[str], width: int = WIDTH, dtype: type = np.float32) -> Engine:
    """Engine of a feature set, made once per process."""
    return _engine(tuple(features), width, dtype, changes())

"""Streaming: one closed bar of all symbols at a time, with the state of a batch run kept between calls."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kernels.driver import OK
from kernels.engine import BarJob, Engine, aligned, engine_for, pad, to_groups, to_rows
from kernels.errors import BadPanel, KernelError, RevisedBar, StateMismatch
from kernels.panel import bad_bar, check_column, clock_values, say_time

Float64 = NDArray[np.float64]
_HEADER = 6
_VERSION = 1.0


class _Place:
    """Room for one bar of all symbols, with the arguments of the compiled code that read it."""

    def __init__(self, engine: Engine, state: Float64, clock: Float64, lanes: int) -> None:
        self.bar = aligned((len(engine.program.columns), lanes))
        self.rows = list(self.bar)
        self.columns = [row.reshape(1, lanes) for row in self.bar]
        self.job = BarJob(engine, self.columns, clock, state)


class Stream:
    """Features of a set of symbols, advanced bar by bar.

    Parameters
    ----------
    features
        Feature names.
    symbols
        Symbol names, in the order of the arrays given to `update`.
    interval_ms
        Length of a bar.

    Notes
    -----
    Gives the bits that `compute` gives over the same bars, for any split of the history between the two, and after
    `state` and `restore`.
    """

    def __init__(self, features: Sequence[str], symbols: Sequence[str], interval_ms: int) -> None:
        if interval_ms <= 0 or not symbols:
            raise KernelError(
                "a stream needs symbols and a positive interval",
                where=f"{len(symbols)} symbols, interval_ms={interval_ms}",
                remedy="give market.intervals.interval_ms(name) and at least one symbol",
            )
        self.features = tuple(features)
        self.symbols = tuple(symbols)
        self.interval_ms = int(interval_ms)
        self.last_open_time: int | None = None
        self._engine = engine_for(self.features)
        self._consumed = 0
        program = self._engine.program
        self._lanes = self._engine.lanes_of(len(self.symbols))
        self._state = self._engine.new_state(self._lanes)
        self._clock = np.zeros((max(len(program.clock), 1), 1))
        # the bar consumed last stays, to tell a revision: the next one is filled into the other place
        self._last, self._next = (
            _Place(self._engine, self._state, self._clock, self._lanes) for _ in range(2)
        )

    def update(
        self, open_time: int, bar: Mapping[str, Float64], *, now_ms: int | None = None
    ) -> NDArray[np.float32]:
        """Consume one closed bar of every symbol.

        Parameters
        ----------
        open_time
            Of the bar, ms since epoch UTC. Bars left out since the last one count as missing for all symbols.
        bar
            (S,) float64 per column; NaN in all columns = this symbol's bar is missing.
        now_ms
            Exchange time. When given, a bar that is still open is refused.

        Returns
        -------
        ndarray
            (F, S) float32.

        Raises
        ------
        RevisedBar
            A bar at or before the last one consumed.
        BadPanel
            A bar with wrong arrays or values. A bar that follows the last one is refused before anything has moved,
            so the stream can be given the corrected bar.
        """
        skipped = self._skipped(open_time, bar, now_ms)
        if skipped:
            self._skip(skipped)
        size = len(self.symbols)
        for row, name in zip(self._next.rows, self._engine.program.columns, strict=True):
            values = bar[name]
            check_column(name, values, (size,))
            row[:size] = values
        if size < self._lanes:
            self._next.bar[...] = pad(self._next.bar[..., :size], self._lanes)
        return self._advance(open_time)

    def _skipped(self, open_time: int, bar: Mapping[str, Float64], now_ms: int | None) -> int:
        """Check the bar's place in time; returns how many bars were left out before it."""
        if now_ms is not None and open_time + self.interval_ms > now_ms:
            raise BadPanel(
                "the bar is still open",
                where=f"open_time {say_time(open_time)}, now {say_time(now_ms)}",
                remedy="give the bar after it has closed",
            )
        for name in self._engine.program.columns:
            if name not in bar:
                raise BadPanel(
                    f"the bar has no column {name!r}", where=f"columns: {', '.join(bar)}", remedy="add it"
                )
        if self.last_open_time is None:
            return 0
        steps, rest = divmod(open_time - self.last_open_time, self.interval_ms)
        if steps <= 0:
            raise self._revised(open_time, bar)
        if rest:
            raise BadPanel(
                "the bar is not on the stream's time grid",
                where=f"open_time {say_time(open_time)}, last {say_time(self.last_open_time)}",
                remedy=f"open times must be {self.interval_ms} ms apart",
            )
        return steps - 1

    def _skip(self, bars: int) -> None:
        """Take bars as missing for all symbols."""
        assert self.last_open_time is not None
        for _ in range(bars):
            self._next.bar[...] = np.nan
            self._advance(self.last_open_time + self.interval_ms)

    def _revised(self, open_time: int, bar: Mapping[str, Float64]) -> RevisedBar:
        assert self.last_open_time is not None
        changed = "an earlier bar"
        if open_time == self.last_open_time:
            changed = "the same values again"
            for name, row in zip(self._engine.program.columns, self._last.rows, strict=True):
                old, new = row[: len(self.symbols)], np.asarray(bar[name])
                differs = (old != new) & ~(np.isnan(old) & np.isnan(new))
                if differs.any():
                    s = int(np.flatnonzero(differs)[0])
                    changed = f"{self.symbols[s]} {name} {float(old[s])!r} -> {float(new[s])!r}"
                    break
        return RevisedBar(
            "a bar that was already consumed came again",
            where=f"open_time {say_time(open_time)}, last consumed {say_time(self.last_open_time)}: {changed}",
            remedy="give each bar once, after it has closed; to take in a revision, recompute from the store",
        )

    def _advance(self, open_time: int) -> NDArray[np.float32]:
        """Run the engine over the bar that has been filled in, and make it the last bar."""
        place, clock = self._next, self._engine.program.clock
        if clock:
            self._clock[...] = clock_values(np.array([open_time], dtype=np.int64), clock)
        out = np.empty((len(self.features), self._lanes), dtype=np.float32)
        if place.job.run(self._consumed, out) != OK:
            named = dict(zip(self._engine.program.columns, place.columns, strict=True))
            raise bad_bar(named, 0, open_time, self.symbols)
        self._last, self._next = place, self._last
        self._consumed += 1
        self.last_open_time = open_time
        return out[:, : len(self.symbols)]

    def state(self) -> Float64:
        """Everything that `restore` needs, as one float64 array that can be saved with numpy.save."""
        size = len(self.symbols)
        last = np.nan if self.last_open_time is None else float(self.last_open_time)
        header = [_VERSION, _fingerprint(self.features, self.symbols, self._engine.program.source)]
        header += [float(self.interval_ms), float(self._consumed), last, float(size)]
        rows = to_rows(self._state, self._lanes)[:, :size]
        return np.concatenate([header, self._last.bar[:, :size].ravel(), rows.ravel()])

    @classmethod
    def restore(
        cls, features: Sequence[str], symbols: Sequence[str], interval_ms: int, state: Float64
    ) -> Stream:
        """Continue where a stream with these features, symbols and interval was when `state` was taken.

        Raises
        ------
        StateMismatch
            The state is of something else.
        """
        stream = cls(features, symbols, interval_ms)
        program, size = stream._engine.program, len(stream.symbols)
        columns = len(program.columns)
        expected = [
            _VERSION,
            _fingerprint(stream.features, stream.symbols, program.source),
            float(interval_ms),
        ]
        length = _HEADER + (columns + program.rows) * size
        state = np.asarray(state)
        if state.shape != (length,) or state.dtype != np.float64 or list(state[:3]) != expected:
            raise StateMismatch(
                "the saved state belongs to other features, symbols, another interval or another version",
                where=f"state of shape {state.shape}, expected ({length},)",
                remedy="start a new stream and feed it the stored history",
            )
        stream._consumed = int(state[3])
        stream.last_open_time = None if np.isnan(state[4]) else int(state[4])
        bar = state[_HEADER : _HEADER + columns * size].reshape(columns, size)
        rows = state[_HEADER + columns * size :].reshape(program.rows, size)
        stream._last.bar[...] = pad(bar, stream._lanes)
        stream._state[...] = to_groups(pad(rows, stream._lanes), stream._engine.width)
        return stream


def _fingerprint(features: tuple[str, ...], symbols: tuple[str, ...], source: str) -> float:
    """Hash of what a state's rows mean, as an integer that float64 holds exactly."""
    digest = hashlib.sha256(repr((features, symbols, source)).encode()).digest()
    return float(int.from_bytes(digest[:6], "big"))

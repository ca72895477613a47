"""Streaming: one closed bar of all symbols at a time, with the state of a batch run kept between calls."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from kernels.driver import OK
from kernels.engine import BarJob, Engine, aligned, engine_for, pad, to_groups, to_rows
from kernels.errors import BadPanel, KernelError, RevisedBar, StateMismatch
from kernels.panel import bad_bar, check_column, check_time, clock_values, say_time

Float64 = NDArray[np.float64]
_VERSION, _HEADER = 2.0, 7
_CHECKSUM = 1
"""Place in a state; before it the version, behind it what `_identity` says, bars consumed and the last open time."""


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
        self.features = tuple(map(str, features))
        self.symbols = tuple(map(str, symbols))
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
        check_time(open_time)
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
        self._next.bar[...] = np.nan
        # behind one missing bar nothing is looked back upon beyond it: further ones only move the count on
        self._consumed += bars - 1
        self._advance(self.last_open_time + self.interval_ms * bars)

    def _revised(self, open_time: int, bar: Mapping[str, Float64]) -> RevisedBar:
        assert self.last_open_time is not None
        changed = "an earlier bar"
        if open_time == self.last_open_time:
            changed = "the same values again"
            for name, row in zip(self._engine.program.columns, self._last.rows, strict=True):
                check_column(name, bar[name], (len(self.symbols),))
                old, new = row[: len(self.symbols)], bar[name]
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
        header = [_VERSION, 0.0, *self._identity(), float(self._consumed), last]
        rows = to_rows(self._state, self._lanes)[:, :size]
        state = np.concatenate([header, self._last.bar[:, :size].ravel(), rows.ravel()])
        state[_CHECKSUM] = _checksum(state)
        return state

    def _identity(self) -> tuple[float, float, float]:
        """What a state must be of to be continued: features and their formulas, symbols, interval."""
        source = self._engine.program.source
        return _fingerprint(self.features, source), _fingerprint(self.symbols), float(self.interval_ms)

    @classmethod
    def restore(
        cls, features: Sequence[str], symbols: Sequence[str], interval_ms: int, state: Float64
    ) -> Stream:
        """Continue where a stream with these features, symbols and interval was when `state` was taken.

        Raises
        ------
        StateMismatch
            The state is of something else, of another version, or damaged.
        """
        stream = cls(features, symbols, interval_ms)
        program, size = stream._engine.program, len(stream.symbols)
        columns = len(program.columns)
        state = np.asarray(state)
        stream._refuse_foreign(state)
        stream._consumed = int(state[_HEADER - 2])
        last = state[_HEADER - 1]
        stream.last_open_time = None if np.isnan(last) else int(last)
        bar = state[_HEADER : _HEADER + columns * size].reshape(columns, size)
        rows = state[_HEADER + columns * size :].reshape(program.rows, size)
        stream._last.bar[...] = pad(bar, stream._lanes)
        stream._state[...] = to_groups(pad(rows, stream._lanes), stream._engine.width)
        return stream

    def _refuse_foreign(self, state: NDArray[np.generic]) -> None:
        """Raise unless a state is whole and of this stream."""

        def refuse(what: str, where: str) -> NoReturn:
            raise StateMismatch(what, where=where, remedy="start a new stream and feed it the stored history")

        if state.dtype != np.float64 or state.ndim != 1 or len(state) < _HEADER:
            refuse("this is no saved state of a stream", f"{state.dtype} of shape {state.shape}")
        if state[0] != _VERSION:
            refuse("the saved state is of another version", f"version {state[0]:g}, this is {_VERSION:g}")
        if state[_CHECKSUM] != _checksum(state):
            refuse("the saved state is damaged", f"{len(state)} numbers whose checksum is another one")
        this = (
            f"a stream of {len(self.features)} features, {len(self.symbols)} symbols, {self.interval_ms} ms"
        )
        others = ("other features, or other formulas of them", "other symbols", "another interval")
        for other, mine, its in zip(
            others, self._identity(), state[_CHECKSUM + 1 : _HEADER - 2], strict=True
        ):
            if mine != its:
                refuse(f"the saved state is of {other}", this)


def _checksum(state: NDArray[np.generic]) -> float:
    """CRC-32 of everything in a state but itself."""
    before, behind = state[:_CHECKSUM], np.ascontiguousarray(state[_CHECKSUM + 1 :])
    return float(zlib.crc32(behind.data, zlib.crc32(before.tobytes())))


def _fingerprint(*facts: object) -> float:
    """Hash as an integer that float64 holds exactly."""
    digest = hashlib.sha256(repr(facts).encode()).digest()
    return float(int.from_bytes(digest[:6], "big"))

"""Batch: features of a whole panel at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.catalogue import available, default_features
from kernels.driver import OK
from kernels.engine import Engine, aligned, engine_for, pad
from kernels.errors import BadPanel, KernelError
from kernels.file_maps import read_planes
from kernels.panel import PanelLike, bad_bar, check_shapes, clock_values, last_close, say_time


@dataclass(frozen=True)
class FeatureBlock:
    """Features of many symbols over time.

    Attributes
    ----------
    values
        (F, T, S) float32; NaN where a feature has no value (warm-up, gaps).
    names
        F feature names.
    open_time
        (T,) int64, ms since epoch UTC.
    symbols
        S names.
    """

    values: NDArray[np.float32]
    names: tuple[str, ...]
    open_time: NDArray[np.int64]
    symbols: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """(F, T, S)."""
        return self.values.shape

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the features of the bars [start, stop), a new array (F, stop - start, S) float32."""
        features, bars, symbols = self.values.shape
        out = np.empty((features, len(range(bars)[start:stop]), symbols), np.float32)
        for own, plane in zip(out, read_planes(self.values, range(features), start, stop), strict=True):
            own[...] = plane
        return out


def compute(
    panel: PanelLike,
    features: Sequence[str] | None = None,
    threads: int = 1,
    *,
    now_ms: int | None = None,
    out: NDArray[np.float32] | None = None,
) -> FeatureBlock:
    """Compute features of every bar and symbol of a panel.

    Parameters
    ----------
    panel
        Closed bars on a complete time grid; NaN = missing bar. Anything with open_time (T,), symbols and columns
        (T, S) float64 C-contiguous: open, high, low, close, volume, and what further columns the features read.
    features
        Names; by default all listed features whose columns the panel has.
    threads
        Threads over groups of symbols; changes no bit of the result.
    now_ms
        Exchange time. When given, a last bar that is still open is refused (a single bar, of which nothing says how
        long it is, when it opens later).
    out
        (F, T, S) C-contiguous float32 to write to instead of a new array.

    Returns
    -------
    FeatureBlock
        A feature is NaN during its warm-up, at a missing bar, and while a gap lies in a window that it looks at.
        Recursive features hold their state over a gap and go on from there.

    Raises
    ------
    BadPanel
        The panel, or a bar in it, is not as described; says which.
    UnknownFeature
        A name that the catalogue cannot make sense of.
    KernelError
        No memory for the result.
    """
    names = available(default_features(), panel.columns) if features is None else tuple(features)
    engine = engine_for(names)
    check_shapes(panel, engine.program.columns)
    if now_ms is not None:
        refuse_open_bar(panel.open_time, now_ms)
    shape = (len(names), len(panel.open_time), len(panel.symbols))
    values = _output(shape, engine.width, out)
    run_batch(engine, panel, values, threads)
    if values.shape != shape:  # fewer symbols than lanes: the padding goes
        values = np.ascontiguousarray(values[..., : shape[2]])
        if out is not None:
            out[...] = values
            values = out
    return FeatureBlock(values, names, panel.open_time, tuple(panel.symbols))


def run_batch(engine: Engine, panel: PanelLike, values: NDArray[np.floating], threads: int = 1) -> None:
    """Run an engine over a checked panel, from a fresh state, into `values` (F, T, at least `engine.width`)."""
    columns = [pad(panel.columns[name], engine.width) for name in engine.program.columns]
    clock = clock_values(panel.open_time, engine.program.clock)
    state = engine.new_state(columns[0].shape[1])
    row = engine.run(columns, clock, state, 0, values, threads)
    if row != OK:
        raise bad_bar(
            {name: panel.columns[name] for name in engine.program.columns},
            row,
            panel.open_time[row],
            panel.symbols,
        )


def _output(shape: tuple[int, int, int], width: int, out: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Where the compiled code writes: the caller's array, or a new one; at least `width` symbols wide."""
    if out is not None:
        fits = isinstance(out, np.ndarray) and out.shape == shape and out.dtype == np.float32
        if not fits or not out.flags.c_contiguous or not out.flags.writeable:
            raise BadPanel(
                "out is not a writable C-contiguous float32 array of the result's shape",
                where=f"{type(out).__name__} {getattr(out, 'dtype', '')} {getattr(out, 'shape', '')}, needed {shape}",
                remedy="allocate it with numpy.empty",
            )
        if shape[2] >= width:
            return out
    try:
        return aligned((*shape[:2], max(shape[2], width)), np.float32, np.empty)
    except MemoryError as error:
        raise KernelError(
            f"no memory for the result: {4 * math.prod(shape) / 2**30:.1f} GiB",
            where="{} features, {} bars, {} symbols of 4 bytes".format(*shape),
            remedy="compute fewer at a time, or into a file: out=numpy.lib.format.open_memmap(path, 'w+', 'f4', shape)",
        ) from error


def refuse_open_bar(open_time: NDArray[np.int64], now_ms: int) -> None:
    """Refuse a last bar that has not closed by `now_ms`."""
    if last_close(open_time) > now_ms:
        raise BadPanel(
            "the last bar is still open",
            where=f"open_time {say_time(open_time[-1])}, now {say_time(now_ms)}",
            remedy="give closed bars only",
        )

"""Do bars go on where the ones before them ended? Told, never refused: a market may open anywhere.

That bars follow each other in time is settled elsewhere: a page is taken as it comes only if it begins at the first
missing bar and has every bar up to its last, and whatever is absent stands in the gap ledger. What is left is the
price: on real markets the next open differs from the last close, as a rule by little. A bar that opens at more than
twice or less than half of the close right before it may be a mistake of the source (another symbol's bars, a shifted
decimal point) or a crash; nothing but a look at it can tell, so it is stored and counted.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market.intervals import interval_ms
from market.store import KlineStore
from market.store.bars import symbol_starts

JUMP: Final = 2.0
_LOOK_BACK_MS: Final = 86_400_000


class Continuity:
    """Compares bars of one interval with those before them, batch after batch.

    Parameters
    ----------
    store : KlineStore
        Where the bars come to rest.
    """

    def __init__(self, store: KlineStore, interval: str) -> None:
        self._store, self._interval, self._length = store, interval, interval_ms(interval)
        self._ended: dict[str, tuple[int, float]] = {}

    def count_jumps(self, new: pl.DataFrame) -> dict[str, int]:
        """Count by symbol the bars whose open is far from the close of the bar right before.

        Parameters
        ----------
        new : pl.DataFrame
            Bars (`market.klines.STORED_SCHEMA`) sorted by symbol and open_time, stored a moment ago or about to be.
            The first of each symbol is compared with the last of an earlier batch, where that is the one before, or
            with the stored one, unless such first ones lie more than a day apart, as in a backfill.
        """
        if new.is_empty():
            return {}
        starts = symbol_starts(new)
        first, last = new[starts], new[np.append(starts[1:], new.height) - 1]
        far = [new["symbol"].gather(_jumps(new, self._length)), self._far_from_before(first)]
        self._ended.update(
            (symbol, (at, close))
            for symbol, at, close in last.select("symbol", "open_time", "close").iter_rows()
        )
        return dict(pl.concat(far).value_counts().iter_rows())

    def _far_from_before(self, first: pl.DataFrame) -> pl.Series:
        """Return the symbols of those bars, one of each, that open far from the close of the one before."""
        after = first.select("symbol", "open", open_time=pl.col("open_time") - self._length)
        ended = [self._ended.get(symbol) for symbol in after["symbol"]]
        closes = [
            found[1] if found is not None and found[0] == at else None
            for found, at in zip(ended, after["open_time"], strict=True)
        ]
        known = after.with_columns(close=pl.Series(closes, dtype=pl.Float64))
        pairs = [
            known.drop_nulls("close"),
            self._stored(known.filter(pl.col("close").is_null()).drop("close")),
        ]
        both = pl.concat(pairs)
        return both["symbol"].filter(pl.Series(_is_far(both["open"].to_numpy(), both["close"].to_numpy())))

    def _stored(self, after: pl.DataFrame) -> pl.DataFrame:
        """Return bars with the close of the stored one at their open_time; none if these are over a day apart."""
        opens = after["open_time"].to_numpy()
        if not len(opens) or opens.max() - opens.min() > _LOOK_BACK_MS:
            return after.clear().with_columns(close=pl.lit(0.0))
        span = int(opens.min()), int(opens.max()) + self._length
        columns = ("symbol", "open_time", "close")
        stored = self._store.scan(self._interval, after["symbol"].to_list(), *span, columns).collect()
        return after.join(stored, on=["symbol", "open_time"])


def _jumps(bars: pl.DataFrame, length: int) -> NDArray[np.int64]:
    """Return the rows, sorted by symbol and open_time, that follow the one before and open far from its close."""
    at, opened, closed = (bars[name].to_numpy() for name in ("open_time", "open", "close"))
    far = np.flatnonzero((np.diff(at) == length) & _is_far(opened[1:], closed[:-1])) + 1
    if not len(far):  # nearly always: there is no need to look at the symbols
        return far
    same: NDArray[np.bool_] = (bars["symbol"].gather(far) == bars["symbol"].gather(far - 1)).to_numpy()
    return far[same]


def _is_far(opened: NDArray[np.float64], closed: NDArray[np.float64]) -> NDArray[np.bool_]:
    ratio = opened / closed
    far: NDArray[np.bool_] = (ratio > JUMP) | (ratio < 1 / JUMP)
    return far

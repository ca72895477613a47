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


def count_jumps(store: KlineStore, interval: str, new: pl.DataFrame) -> dict[str, int]:
    """Count by symbol the bars whose open is far from the close of the bar right before.

    Parameters
    ----------
    new : pl.DataFrame
        Bars (`market.klines.STORED_SCHEMA`) sorted by symbol and open_time, stored a moment ago or about to be. The
        first of each symbol is compared with the stored bar before it, unless the first ones lie more than a day
        apart, as in a backfill.
    """
    first = new[symbol_starts(new)]
    far = [new["symbol"].gather(_jumps(new, interval_ms(interval)))]
    opened = first["open_time"].to_numpy()
    if len(opened) and opened.max() - opened.min() <= _LOOK_BACK_MS:
        far.append(_far_from_stored(store, interval, first))
    names = pl.concat(far)
    return dict(names.value_counts().iter_rows()) if len(names) else {}


def _far_from_stored(store: KlineStore, interval: str, first: pl.DataFrame) -> pl.Series:
    """Return the symbols of those bars, one of each, that open far from the close of the stored one before."""
    length = interval_ms(interval)
    opens = first["open_time"].to_numpy()
    span = int(opens.min()) - length, int(opens.max())
    after = first.select("symbol", "open", open_time=pl.col("open_time") - length)
    stored = store.scan(
        interval, after["symbol"].to_list(), *span, ("symbol", "open_time", "close")
    ).collect()
    both = after.join(stored, on=["symbol", "open_time"])
    return both["symbol"].filter(pl.Series(_is_far(both["open"].to_numpy(), both["close"].to_numpy())))


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

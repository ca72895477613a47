"""The best possible forecast on the built-in market, which its generator alone knows."""

from __future__ import annotations

import json
import urllib.parse

import numpy as np

from assets.source import builtin_info
from market.loopback import DIRECT
from training.data.training_set import TrainingSet

_PAGE_BARS = 1_000


def best_p_up(url: str, data: TrainingSet, split: str) -> np.ndarray | None:
    """Ask the built-in exchange for the best possible P(up) of every row of a split.

    Returns
    -------
    ndarray or None
        (n,) float64 in the order of the split's rows, NaN where the generator gives none; None where the exchange
        is no simulated market, so that nobody knows the best.
    """
    if (builtin_info(url) or {}).get("kind") != "simulated":
        return None
    rows = data.rows[split]
    times = data.open_time[rows[:, 0]]
    best = np.full(len(rows), np.nan)
    for index, symbol in enumerate(data.manifest.symbols):
        mine = rows[:, 1] == index
        if not mine.any():
            continue
        known = _truth(url, symbol, data, int(times[mine].min()), int(times[mine].max()))
        best[mine] = [known.get(int(time), np.nan) for time in times[mine]]
    return best


def _truth(url: str, symbol: str, data: TrainingSet, first: int, last: int) -> dict[int, float]:
    found: dict[int, float] = {}
    start = first
    while start <= last:
        page = _page(url, symbol, data, start, last)
        if not page:
            break
        found.update(page)
        start = max(page) + 1
    return found


def _page(url: str, symbol: str, data: TrainingSet, start: int, end: int) -> dict[int, float]:
    query = urllib.parse.urlencode(
        {
            "symbol": symbol,
            "interval": data.manifest.interval,
            "horizon": data.manifest.config.horizon,
            "startTime": start,
            "endTime": end,
            "limit": _PAGE_BARS,
        }
    )
    with DIRECT.open(f"{url}/klinecast/v1/truth?{query}", timeout=60) as answer:
        bars = json.load(answer)
    return {int(time): float(p_up) for time, p_up in zip(bars["open_time"], bars["p_up"], strict=True)}

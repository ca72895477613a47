"""How far the newest features are from those that a model learned from, and what became of its predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from kernels.feature_store import open_latest
from kernels.joins import IntervalFeatures, JoinedFeatures, features_by_interval
from market.intervals import DAY_MS, interval_ms
from market.store import KlineStore
from training.config import Normalisation
from training.data.targets import forward_log_return
from training.errors import EvaluationError
from training.export.manifest import Manifest
from training.lifecycle.model_card import feature_group
from training.monitoring.drift import DriftReport, feature_drift
from training.monitoring.served_skill import ServedSkill, served_skill

_VALUES = 50 << 20
"""Values of the training span that are looked at, at most (200 MB): of a longer one, every so many-th bar."""


def drift_of(home: Path, manifest: Manifest, days: int) -> DriftReport:
    """Hold the published features of the newest days against those of a model's training span.

    Parameters
    ----------
    home
        Its newest published features are read.
    manifest
        Of the model.
    days
        How many days are recent; bars that the model learned from are none of them.

    Raises
    ------
    KernelError
        Nothing is published of an interval that the model reads.
    EvaluationError
        There is nothing newer than its training span, or the published features do not reach back to it.
    """
    own, *longer = [
        IntervalFeatures(interval, interval_ms(interval), open_latest(home, interval), names)
        for interval, names in features_by_interval(manifest.feature_names, manifest.intervals[0]).items()
    ]
    block = JoinedFeatures(own, longer)
    time = block.open_time
    span = manifest.training_span
    learned = _bars(time, span.start, span.end + 1)
    newest = _bars(time, max(int(time[-1]) + own.step_ms - days * DAY_MS, span.end + 1), int(time[-1]) + 1)
    if learned.stop <= learned.start or newest.stop <= newest.start:
        raise EvaluationError(
            "the published features hold no bars of the training span, or none after it",
            where=f"model {manifest.model_version}",
            remedy="compute features of newer bars (klinecast run make_features), or keep a longer history",
        )
    each = len(block.symbols) * len(block.names)
    step = max(1, (learned.stop - learned.start) * each // _VALUES)
    # What the clock says moves with every day, and never drifts.
    kept = [place for place, name in enumerate(block.names) if feature_group(name) != "clock"]
    told = manifest.normalisation
    normalisation = Normalisation(
        mean=tuple(told.mean[place] for place in kept),
        std=tuple(told.std[place] for place in kept),
        clip=told.clip,
    )
    reference, recent = (_read(block, bars, step)[:, :, kept] for bars in (learned, newest))
    return feature_drift(reference, recent, [block.names[place] for place in kept], normalisation)


def served_skill_of(store: KlineStore, manifest: Manifest) -> ServedSkill:
    """Judge the stored predictions of a model by the bars that came after them."""
    interval = manifest.intervals[0]
    made = store.predictions(interval, model_version=manifest.model_version)
    step = interval_ms(interval)
    horizon_ms = manifest.horizon * step
    came = np.full(made.height, np.nan)
    if made.height:
        symbols = made["symbol"].unique(maintain_order=True).to_list()
        first, last = _ends(made)
        panel = store.panel(interval, symbols, start=first, end=last + horizon_ms + 1, columns=("close",))
        returns = forward_log_return(panel.columns["close"], manifest.horizon)
        places = {symbol: place for place, symbol in enumerate(symbols)}
        rows = (made["open_time"].to_numpy() - int(panel.open_time[0])) // step
        came = returns[rows, [places[symbol] for symbol in made["symbol"]]]
    time, *said = (made[name].to_numpy() for name in ("open_time", "p_down", "p_up", "q10", "q90"))
    p_down, p_up, low, high = said
    return served_skill(time, p_down, p_up, low, high, came, horizon_ms=horizon_ms)


def _ends(made: pl.DataFrame) -> tuple[int, int]:
    times = made["open_time"].to_numpy()
    return int(times.min()), int(times.max())


def _bars(time: np.ndarray, start: int, stop: int) -> slice:
    return slice(int(np.searchsorted(time, start)), int(np.searchsorted(time, stop)))


def _read(block: JoinedFeatures, bars: slice, step: int) -> np.ndarray:
    """Features (n, S, F) of every `step`-th bar of a span, read piece by piece."""
    pieces = [
        block.read(start, min(start + 1024 * step, bars.stop))[:, ::step].transpose(1, 2, 0)
        for start in range(bars.start, bars.stop, 1024 * step)
    ]
    return np.concatenate(pieces)

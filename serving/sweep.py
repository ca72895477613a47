"""A prediction sweep: every symbol's newest closed bar, one batched run of the model, one transaction."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market.intervals import floor_time, interval_ms
from market.store import PREDICTION_SCHEMA, KlineStore
from market.wording import utc
from serving.bundle import Bundle, current_version, load_bundle
from serving.cache import ArrayCache
from serving.errors import BundleError, SweepError
from serving.form_choice import with_fastest_form
from serving.inputs import CacheUse, model_inputs, read_panels
from serving.intervals import interval_parts, own_intervals
from serving.predictor import THREADS, Forecasts, Predictor
from serving.skipping import not_ready, skip_reasons

logger = logging.getLogger(__name__)

_CLASS_COLUMNS: Final = {"down": "p_down", "flat": "p_flat", "up": "p_up"}
_QUANTILE_COLUMNS: Final = {0.1: "q10", 0.5: "q50", 0.9: "q90"}


@dataclass(frozen=True)
class SweepReport:
    """What a sweep did.

    Attributes
    ----------
    frame
        The predictions, `market.store.PREDICTION_SCHEMA`, a row a symbol in the order asked for.
    skipped
        Symbol to the reason why it has none.
    not_ready
        Interval whose features are joined, to the symbols whose bar of it that belongs to the sweep's bar is not
        stored yet; they are skipped.
    model_version, interval
        Which model, on bars of which interval.
    open_time
        Of the sweep's bar, ms.
    staleness_bars
        Closed bars that the exchange has but the store lacks: 0 when ingestion is up to date.
    rows_inserted
        Rows that were not in the store; a repeated sweep inserts none.
    timings
        Stage to seconds: load, read, features, predict, write.
    cache
        Whether the features came from the cache.
    predictor
        The loaded model, for the next sweep of this process.
    """

    frame: pl.DataFrame
    skipped: dict[str, str]
    not_ready: dict[str, tuple[str, ...]]
    model_version: str
    interval: str
    open_time: int
    staleness_bars: int
    rows_inserted: int
    timings: dict[str, float]
    cache: CacheUse
    predictor: Predictor = field(repr=False, compare=False)


def sweep(
    store: KlineStore,
    home: Path,
    *,
    symbols: Sequence[str],
    now_ms: int,
    interval: str | None = None,
    cache: ArrayCache | None = None,
    previous: SweepReport | None = None,
    threads: int = THREADS,
) -> SweepReport:
    """Predict at the newest closed bar and store the predictions.

    The rows are a function of the stored bars and the model: a restart, the cache, the number of threads and
    the other symbols change no bit of them.

    Parameters
    ----------
    store
        Where bars are read and predictions are written.
    home
        KLINECAST_HOME with the model bundles.
    symbols
        Whom to predict, each once.
    now_ms
        Exchange time; becomes `created_at`.
    interval
        By default the model's own, unless it was made for several to choose from.
    cache
        Saves the computation of features where a sweep of the same bars has been made.
    previous
        An earlier sweep of this process; its model is used again while it is the current one.
    threads
        Threads of the model's run.

    Returns
    -------
    SweepReport

    Raises
    ------
    ServingError
        There is no sound model, nothing is stored, or model and bars do not fit together. Symbols that cannot
        be predicted raise nothing: see `SweepReport.skipped`.
    """
    clock = _StageClock()
    with clock.stage("load"):
        predictor = _predictor(home, previous, threads)
    bundle = predictor.bundle
    chosen = _interval(bundle, interval)
    asked = _symbols(symbols)
    parts = interval_parts(bundle, chosen)
    with clock.stage("read"):
        spans = {part.interval: _spans(store, part.interval, asked) for part in parts}
        newest_closed = floor_time(now_ms, chosen) - interval_ms(chosen)
        bar = _bar(spans[chosen], newest_closed, chosen)
        panels = read_panels(store, bundle, chosen, asked, bar + interval_ms(chosen))
    with clock.stage("features"):
        inputs = model_inputs(panels, bundle, cache)
        skipped = skip_reasons(panels, inputs, bundle, spans)
        late = not_ready(panels)
    with clock.stage("predict"):
        kept = np.array([symbol not in skipped for symbol in asked], bool)
        forecasts = predictor.predict(inputs.windows[kept])
        names = [symbol for symbol in asked if symbol not in skipped]
        usable = forecasts.usable()
        for at in np.flatnonzero(~usable):
            skipped[names[at]] = "no answer: the model gave no finite number"
        frame = _frame(names, usable, forecasts, bundle, chosen, bar, now_ms)
    with clock.stage("write"):
        inserted = store.write_predictions(frame).rows_inserted if frame.height else 0
    staleness = (newest_closed - bar) // interval_ms(chosen)
    if staleness:
        logger.warning(
            "the newest %s bar stored opened %s, %d bar%s behind the exchange",
            *(chosen, utc(bar), staleness, "" if staleness == 1 else "s"),
        )
    for name, symbols_late in late.items():
        logger.warning(
            "%s: the bar that belongs to the %s bar of %s is not stored for %d of %d symbols (%s): not predicted",
            *(name, chosen, utc(bar), len(symbols_late), len(asked), ", ".join(symbols_late)),
        )
    return SweepReport(
        frame=frame,
        skipped={symbol: skipped[symbol] for symbol in asked if symbol in skipped},
        not_ready=late,
        model_version=bundle.version,
        interval=chosen,
        open_time=bar,
        staleness_bars=staleness,
        rows_inserted=inserted,
        timings=clock.seconds,
        cache=inputs.cache,
        predictor=predictor,
    )


class _StageClock:
    """Seconds of each stage, in the order of the stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - start


def _predictor(home: Path, previous: SweepReport | None, threads: int) -> Predictor:
    if previous is not None and previous.model_version == current_version(home):
        return previous.predictor
    predictor = Predictor(with_fastest_form(load_bundle(home)), threads)
    _check_columns(predictor.bundle)
    return predictor


def _check_columns(bundle: Bundle) -> None:
    lacking = [f"class {name}" for name in _CLASS_COLUMNS if name not in bundle.classes]
    lacking += [f"quantile {level}" for level in _QUANTILE_COLUMNS if level not in bundle.quantiles]
    if lacking or len(bundle.classes) != len(_CLASS_COLUMNS):
        raise BundleError(
            f"the model's classes {list(bundle.classes)} and quantiles {list(bundle.quantiles)} do not fill"
            f" the table of predictions{': no ' + ', '.join(lacking) if lacking else ''}",
            where=str(bundle.folder / "manifest.json"),
            remedy="train with the classes down, flat, up and the quantiles 0.1, 0.5 and 0.9",
        )


def _interval(bundle: Bundle, interval: str | None) -> str:
    own = own_intervals(bundle)
    chosen = own[0] if interval is None and len(own) == 1 else interval
    if chosen not in own:
        raise SweepError(
            "no interval given, and the model was made for several"
            if chosen is None
            else f"model {bundle.version} was not made for interval {chosen!r}",
            where="interval",
            remedy=f"use one of {', '.join(own)}, or train a model for it",
        )
    return chosen


def _symbols(symbols: Sequence[str]) -> tuple[str, ...]:
    asked = tuple(symbols)
    if not asked or len(set(asked)) != len(asked):
        repeated = sorted({symbol for symbol in asked if asked.count(symbol) > 1})
        raise SweepError(
            f"symbols given twice: {', '.join(repeated)}" if repeated else "no symbols to predict",
            where="symbols",
            remedy="give every symbol once",
        )
    return asked


def _spans(store: KlineStore, interval: str, symbols: Sequence[str]) -> dict[str, tuple[int, int]]:
    frame = store.spans(interval).filter(pl.col("symbol").is_in(list(symbols)))
    rows = frame.select("symbol", "first_open_time", "last_open_time").iter_rows()
    return {symbol: (first, last) for symbol, first, last in rows}


def _bar(spans: dict[str, tuple[int, int]], newest_closed: int, interval: str) -> int:
    """Open time of the newest closed bar that any symbol has."""
    if not any(first <= newest_closed for first, _ in spans.values()):
        raise SweepError(
            f"no closed {interval} bars of these symbols are stored",
            where=f"klines, up to {utc(newest_closed)}",
            remedy="ingest them first: klinecast run ingest",
        )
    return min(newest_closed, max(last for _, last in spans.values()))


def _frame(
    names: Sequence[str],
    usable: NDArray[np.bool_],
    forecasts: Forecasts,
    bundle: Bundle,
    interval: str,
    bar: int,
    now_ms: int,
) -> pl.DataFrame:
    direction, quantiles = forecasts.direction.astype(np.float64), forecasts.quantiles.astype(np.float64)
    columns: dict[str, Any] = {
        "kline_interval": interval,
        "open_time": bar,
        "horizon": bundle.horizon,
        "model_version": bundle.version,
        "created_at": now_ms,
    }
    for name, column in _CLASS_COLUMNS.items():
        columns[column] = direction[:, bundle.classes.index(name)]
    for level, column in _QUANTILE_COLUMNS.items():
        columns[column] = quantiles[:, bundle.quantiles.index(level)]
    columns["volatility"] = None if forecasts.volatility is None else forecasts.volatility[:, 0]
    frame = pl.DataFrame({"symbol": list(names)}, schema={"symbol": pl.String()})
    frame = frame.with_columns(
        pl.Series(name, values) if isinstance(values, np.ndarray) else pl.lit(values).alias(name)
        for name, values in columns.items()
    )
    return frame.select(pl.col(n).cast(t) for n, t in PREDICTION_SCHEMA.items()).filter(pl.Series(usable))

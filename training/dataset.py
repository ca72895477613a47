"""Building a training set from a feature block and close prices.

Working memory is one chunk of bars of all symbols (`CHUNK_VALUES` values, 64 MiB) and the targets of the
grid, about 40 bytes per (bar, symbol); features are copied through a file map.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from kernels.windows import complete_windows
from market.intervals import interval_ms
from training.config import CLASSES, ForecasterConfig, Normalisation
from training.errors import TrainingSetError
from training.files import new_folder
from training.splits import SPLITS, Split, SplitSpan, chronological
from training.targets import (
    NO_TARGET,
    direction_of,
    find_volatility_feature,
    forward_log_return,
    horizon_volatility,
)
from training.training_set import (
    FORMAT_VERSION,
    MANIFEST_FILE,
    Batch,
    Outcomes,
    TrainingSet,
    TrainingSetManifest,
)

__all__ = ["Batch", "Outcomes", "TrainingSet", "TrainingSetManifest", "build_training_set"]

CHUNK_VALUES = 16 << 20

log = logging.getLogger(__name__)


class Features(Protocol):
    """What is read of a `kernels` FeatureBlock."""

    @property
    def values(self) -> np.ndarray:
        """(F, T, S) float32, NaN where a feature has no value."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names along F."""

    @property
    def open_time(self) -> np.ndarray:
        """(T,) int64 ms since epoch, UTC, a complete grid."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """Names along S."""


class _Targets(NamedTuple):
    log_return: np.ndarray
    volatility: np.ndarray
    direction: np.ndarray


def build_training_set(
    block: Features, close: np.ndarray, interval: str, config: ForecasterConfig, out: Path
) -> TrainingSet:
    """Write the training set folder `out` and open it.

    A row is a bar t of a symbol whose window (bars t-window+1..t) has every feature, whose bars t..t+horizon
    are all there, and whose volatility is positive. Rows are split by time with purge and embargo
    (training/splits.py); of the training rows at most `config.max_windows` are kept, evenly over time. The
    normalisation is that of the bars of the training span.

    Parameters
    ----------
    block
        Features of a complete time grid; among them one ``realised_vol_<n>``.
    close
        (T, S) close prices of the same grid, NaN where a bar is missing.
    interval
        Interval of the bars, such as "5m".
    config
        Window, horizon, shares, seed.
    out
        Folder to write; a former one is replaced when the new one is complete.

    Raises
    ------
    TrainingSetError
        The input does not fit together, or leaves a split without rows.
    """
    names, symbols = tuple(block.names), tuple(block.symbols)
    _check_input(block, close, interval)
    volatility_feature = find_volatility_feature(names, config.volatility_feature)
    with new_folder(Path(out)) as folder:
        features = _copy_features(block.values, folder / "features.npy")
        targets = _targets(features[:, :, names.index(volatility_feature)].T, close, config)
        complete = _complete(features, config.window)
        usable = complete & (targets.direction != NO_TARGET)
        splits = _split(usable, config)
        rows, counts = _rows(usable, splits, config)
        counts = {"grid": complete.size, "incomplete_window": int((~complete).sum()), **counts}
        counts["no_target"] = int((complete & ~usable).sum())
        normalisation, constant = _normalisation(
            features[:, splits[0].start - config.window + 1 : splits[0].stop], names
        )
        arrays = {"open_time": np.asarray(block.open_time, np.int64), "close": np.asarray(close, np.float64)}
        arrays |= targets._asdict() | rows
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        manifest = TrainingSetManifest(
            format_version=FORMAT_VERSION,
            training_set_id=_content_id(folder, config),
            interval=interval,
            symbols=symbols,
            feature_names=names,
            volatility_feature=volatility_feature,
            config=config,
            normalisation=normalisation,
            constant_features=constant,
            spans={name: _span(index, arrays["open_time"], config) for name, index in rows.items()},
            counts=counts,
            class_share={name: _class_share(targets.direction, index) for name, index in rows.items()},
        )
        (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1))
    log.info(
        "training set %s: %s", manifest.training_set_id, {name: len(index) for name, index in rows.items()}
    )
    return TrainingSet.load(Path(out))


def _check_input(block: Features, close: np.ndarray, interval: str) -> None:
    shape = (len(block.names), len(block.open_time), len(block.symbols))
    if block.values.shape != shape or close.shape != shape[1:]:
        raise TrainingSetError(
            f"features {block.values.shape} and close prices {close.shape} do not fit {shape[0]} names, "
            f"{shape[1]} times, {shape[2]} symbols",
            where="build_training_set",
            remedy="take features and close prices from the same panel",
        )
    steps = np.diff(block.open_time)
    if (steps != interval_ms(interval)).any():
        at = int(block.open_time[int(np.argmax(steps != interval_ms(interval)))])
        raise TrainingSetError(
            f"the bars are not a complete grid of {interval}",
            where=f"after open_time {at}",
            remedy="build features from a panel (missing bars are NaN rows there, not left out)",
        )


def _time_chunks(bars: int, values_per_bar: int) -> Iterator[slice]:
    step = max(1, CHUNK_VALUES // max(1, values_per_bar))
    for start in range(0, bars, step):
        yield slice(start, min(start + step, bars))


def _copy_features(values: np.ndarray, path: Path) -> np.ndarray:
    """Copy (F, T, S) into a file map (S, T, F)."""
    F, T, S = values.shape
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(S, T, F))
    for span in _time_chunks(T, F * S):
        out[:, span] = values[:, span].transpose(2, 1, 0)
    out.flush()
    return out


def _complete(features: np.ndarray, window: int) -> np.ndarray:
    """(T, S): whether the window that ends at this bar is complete; the definition is that of `kernels`."""
    S, T, F = features.shape
    complete = np.zeros((T, S), bool)
    if window > T:
        return complete
    group = max(1, CHUNK_VALUES // (T * F))
    for start in range(0, S, group):
        values = features[start : start + group].transpose(2, 1, 0)
        complete[window - 1 :, start : start + group] = complete_windows(values, window)
    return complete


def _targets(volatility: np.ndarray, close: np.ndarray, config: ForecasterConfig) -> _Targets:
    returns = forward_log_return(close, config.horizon)
    scale = horizon_volatility(volatility, config.horizon)
    direction = direction_of(returns / scale, config.flat_band)
    return _Targets(returns.astype(np.float32), scale.astype(np.float32), direction)


def _split(usable: np.ndarray, config: ForecasterConfig) -> tuple[Split, ...]:
    times = np.flatnonzero(usable.any(axis=1))
    if not len(times):
        raise TrainingSetError(
            f"no symbol has a complete window of {config.window} bars and {config.horizon} bars after it",
            where="build_training_set",
            remedy="use a longer history, a shorter window, or features with a shorter warm-up",
        )
    return chronological(
        int(times[0]),
        int(times[-1]) + 1,
        train_share=config.train_share,
        validation_share=config.validation_share,
        horizon=config.horizon,
        embargo=config.embargo,
    )


def _rows(
    usable: np.ndarray, splits: tuple[Split, ...], config: ForecasterConfig
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Rows (t, s) per split, and how many were taken out and why."""
    rows: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    for split in splits:
        index = np.argwhere(usable[split.start : split.stop]).astype(np.int32)
        index[:, 0] += split.start
        if not len(index):
            raise TrainingSetError(
                f"no row is left between bars {split.start} and {split.stop}",
                where=f"split {split.name}",
                remedy="use a longer history or another share for this split",
            )
        counts[f"purged_{split.name}"] = int(usable[slice(*split.purged)].sum())
        counts[f"embargoed_{split.name}"] = int(usable[slice(*split.embargoed)].sum())
        rows[split.name] = index
    kept = evenly(len(rows["train"]), config.max_windows, config.seed)
    counts["left_out_by_max_windows"] = len(rows["train"]) - len(kept)
    rows["train"] = rows["train"][kept]
    return rows, counts | {name: len(index) for name, index in rows.items()}


def evenly(n: int, keep: int, seed: int) -> np.ndarray:
    """Positions of at most `keep` of `n` rows: one drawn from each of `keep` equal stretches, in order."""
    if n <= keep:
        return np.arange(n)
    edges = np.arange(keep + 1, dtype=np.int64) * n // keep
    return edges[:-1] + (np.random.default_rng(seed).random(keep) * np.diff(edges)).astype(np.int64)


def _normalisation(features: np.ndarray, names: tuple[str, ...]) -> tuple[Normalisation, tuple[str, ...]]:
    """Mean and standard deviation of the complete bars of (S, T, F), merged per symbol (Chan et al.)."""
    count, mean, squares = 0, np.zeros(len(names)), np.zeros(len(names))
    for symbol in features:
        bars = symbol[np.isfinite(symbol).all(axis=1)].astype(np.float64)
        if not len(bars):
            continue
        total = count + len(bars)
        shift = bars.mean(axis=0) - mean
        squares += ((bars - bars.mean(axis=0)) ** 2).sum(axis=0) + shift**2 * (count * len(bars) / total)
        mean += shift * (len(bars) / total)
        count = total
    std = np.sqrt(squares / max(count, 1))
    constant = std <= 1e-12 * np.maximum(1.0, np.abs(mean))
    normalisation = Normalisation(mean=tuple(mean.tolist()), std=tuple(np.where(constant, 1.0, std).tolist()))
    return normalisation, tuple(name for name, same in zip(names, constant, strict=True) if same)


def _span(rows: np.ndarray, open_time: np.ndarray, config: ForecasterConfig) -> SplitSpan:
    first, last = int(rows[0, 0]), int(rows[-1, 0])
    return SplitSpan(
        rows=len(rows),
        first_feature_time=int(open_time[first - config.window + 1]),
        first_open_time=int(open_time[first]),
        last_open_time=int(open_time[last]),
        last_label_time=int(open_time[last + config.horizon]),
    )


def _class_share(direction: np.ndarray, rows: np.ndarray) -> tuple[float, ...]:
    found = np.bincount(direction[rows[:, 0], rows[:, 1]], minlength=len(CLASSES))
    return tuple((found / len(rows)).tolist())


def _content_id(folder: Path, config: ForecasterConfig) -> str:
    """Short hash of the settings of the data and of all arrays."""
    digest = hashlib.sha256(config.model_dump_json(include=_DATA_SETTINGS).encode())
    for path in sorted(folder.glob("*.npy")):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


_DATA_SETTINGS = {
    "window",
    "horizon",
    "flat_band",
    "volatility_feature",
    *(f"{name}_share" for name in SPLITS[:2]),
}

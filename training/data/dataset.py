"""Building a training set from features and close prices.

Besides the close prices themselves, memory is a few pieces of 16 MiB (training/data/set_arrays.py), 3 bytes per (bar,
symbol), and 8 bytes per row that is kept.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np

from market.intervals import interval_ms
from training.config import ForecasterConfig
from training.data.set_arrays import (
    Features,
    class_share,
    normalisation_of,
    rows_where,
    windows_complete,
    write_grid,
)
from training.data.splits import SPLITS, Split, SplitSpan, chronological
from training.data.targets import find_volatility_feature
from training.data.training_set import (
    FORMAT_VERSION,
    MANIFEST_FILE,
    Batch,
    Outcomes,
    TrainingSet,
    TrainingSetManifest,
)
from training.errors import TrainingSetError
from training.files import new_folder

__all__ = ["Batch", "Outcomes", "TrainingSet", "TrainingSetManifest", "build_training_set"]

log = logging.getLogger(__name__)


def build_training_set(
    block: Features, close: np.ndarray, interval: str, config: ForecasterConfig, out: Path
) -> TrainingSet:
    """Write the training set folder `out` and open it.

    A row is a bar t of a symbol whose window (bars t-window+1..t) has every feature, whose bars t..t+horizon
    are all there, and whose volatility is positive. Rows are split by time with purge and embargo
    (training/data/splits.py); of the training rows at most `config.max_windows` are kept, evenly over time. The
    normalisation is that of the bars of the training span.

    Parameters
    ----------
    block
        Features of a complete time grid, of one interval or of several (`kernels.joins.JoinedFeatures`); among
        them one ``realised_vol_<n>`` of the model's own interval.
    close
        (T, S) close prices of the same grid, NaN where a bar is missing.
    interval
        Interval of the bars, such as "5m": the model's own one.
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
        finite, labelled = write_grid(block, close, volatility_feature, config, folder)
        complete = windows_complete(finite, config.window)
        usable = complete & labelled
        splits = _split(usable, config)
        rows, counts = split_rows(usable, splits, config)
        counts = {"grid": complete.size, "incomplete_window": int((~complete).sum()), **counts}
        counts["no_target"] = int((complete & ~usable).sum())
        arrays = {"open_time": np.asarray(block.open_time, np.int64), "close": np.asarray(close, np.float64)}
        for name, array in (arrays | rows).items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        features, direction = (np.load(folder / f"{name}.npy", "r") for name in ("features", "direction"))
        normalisation, constant = normalisation_of(
            features[:, splits[0].start - config.window + 1 : splits[0].stop], names
        )
        manifest = TrainingSetManifest(
            format_version=FORMAT_VERSION,
            training_set_id=_content_id(folder, config, (interval, *names)),
            interval=interval,
            symbols=symbols,
            feature_names=names,
            volatility_feature=volatility_feature,
            config=config,
            normalisation=normalisation,
            constant_features=constant,
            spans={name: span_of(index, arrays["open_time"], config) for name, index in rows.items()},
            counts=counts,
            class_share={name: class_share(direction, index) for name, index in rows.items()},
        )
        (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1))
    log.info(
        "training set %s: %s", manifest.training_set_id, {name: len(index) for name, index in rows.items()}
    )
    return TrainingSet.load(Path(out))


def _check_input(block: Features, close: np.ndarray, interval: str) -> None:
    shape = (len(block.names), len(block.open_time), len(block.symbols))
    if block.shape != shape or close.shape != shape[1:]:
        raise TrainingSetError(
            f"features {block.shape} and close prices {close.shape} do not fit {shape[0]} names, "
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


def split_rows(
    usable: np.ndarray, splits: tuple[Split, ...], config: ForecasterConfig
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Rows (t, s) per split, and how many were taken out and why.

    Parameters
    ----------
    usable
        (T, S) bool: where a row can be.
    splits
        Spans of bars, the training split among them thinned to `config.max_windows` rows.

    Raises
    ------
    TrainingSetError
        A split has no row.
    """
    rows: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    for split in splits:
        bars = usable[split.start : split.stop]
        available = int(np.count_nonzero(bars))
        if not available:
            raise TrainingSetError(
                f"no row is left between bars {split.start} and {split.stop}",
                where=f"split {split.name}",
                remedy="use a longer history or another share for this split",
            )
        counts[f"purged_{split.name}"] = int(usable[slice(*split.purged)].sum())
        counts[f"embargoed_{split.name}"] = int(usable[slice(*split.embargoed)].sum())
        kept = None
        if split.name == "train":
            kept = evenly(available, config.max_windows, config.seed)
            counts["left_out_by_max_windows"] = available - len(kept)
        rows[split.name] = rows_where(bars, split.start, kept)
    return rows, counts | {name: len(index) for name, index in rows.items()}


def evenly(n: int, keep: int, seed: int) -> np.ndarray:
    """Positions of at most `keep` of `n` rows: one drawn from each of `keep` equal stretches, in order."""
    if n <= keep:
        return np.arange(n)
    edges = np.arange(keep + 1, dtype=np.int64) * n // keep
    return edges[:-1] + (np.random.default_rng(seed).random(keep) * np.diff(edges)).astype(np.int64)


def span_of(rows: np.ndarray, open_time: np.ndarray, config: ForecasterConfig) -> SplitSpan:
    """Where the rows (n, 2) of a split lie; at least one, by time."""
    first, last = int(rows[0, 0]), int(rows[-1, 0])
    return SplitSpan(
        rows=len(rows),
        first_feature_time=int(open_time[first - config.window + 1]),
        first_open_time=int(open_time[first]),
        last_open_time=int(open_time[last]),
        last_label_time=int(open_time[last + config.horizon]),
    )


def _content_id(folder: Path, config: ForecasterConfig, names: tuple[str, ...]) -> str:
    """Short hash of the settings of the data, of the names of interval and features, and of all arrays."""
    digest = hashlib.sha256(config.model_dump_json(include=_DATA_SETTINGS).encode())
    digest.update("\n".join(names).encode())
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

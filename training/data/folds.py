"""Walk-forward folds: a training set cut again and again, each test span after all that its model learned from.

With F folds and bounds b[0] < b[1] < ... < b[F] (bars), fold k learns from [first, b[k]) and is tested on
[b[k], b[k + 1])::

    first ................ v[k] ....... b[k] ......... b[k + 1] ............ stop
    |        train         | validation |     test     |  not yet happened   |

The training span grows with k. Purge and embargo lie at both inner bounds (training/data/splits.py), so that neither
the labels of two splits of a fold nor those of the tests of two folds overlap.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kernels.windows import finite_bars
from training.data.dataset import span_of, split_rows
from training.data.set_arrays import chunks, class_share, normalisation_of, windows_complete
from training.data.splits import SPLITS, Split, SplitSpan, cut
from training.data.targets import NO_TARGET
from training.data.training_set import TrainingSet
from training.errors import TrainingSetError


@dataclass(frozen=True)
class Fold:
    """One step of a walk forward.

    Attributes
    ----------
    index
        Number of the fold, from 0, in order of time.
    data
        The training set as this fold sees it: its rows, and the normalisation of its own training span.
    spans
        Where its splits lie.
    counts
        Where every (bar, symbol) of the grid went; `after_test` had not happened yet. They add up to `grid`.
    """

    index: int
    data: TrainingSet
    spans: dict[str, SplitSpan]
    counts: dict[str, int]


def walk_forward(data: TrainingSet, folds: int, *, min_train_share: float = 0.5) -> list[Fold]:
    """Cut a training set into folds whose test spans follow each other.

    Parameters
    ----------
    data
        Any training set; its own splits do not matter, its settings do (window, horizon, embargo, `max_windows`).
    folds
        Number of test spans, equally long.
    min_train_share
        Share of the time span before the first test, for its training and validation. How these two divide it
        is told by the shares of the settings.

    Raises
    ------
    TrainingSetError
        The numbers make no sense, or a split is left without rows.
    """
    if folds < 1 or not 0 < min_train_share < 1:
        raise TrainingSetError(
            f"{folds} folds after a share of {min_train_share} to learn from cannot be cut",
            where="walk_forward",
            remedy="use at least 1 fold and a share between 0 and 1",
        )
    usable, complete = _usable(data)
    times = np.flatnonzero(usable.any(axis=1))
    if not len(times):
        raise TrainingSetError(
            "no bar has a whole window and a target",
            where=str(data.path),
            remedy="materialise `training_set` again from a longer history",
        )
    first, stop = int(times[0]), int(times[-1]) + 1
    before = first + int((stop - first) * min_train_share)
    bounds = [before + (stop - before) * k // folds for k in range(folds + 1)]
    lost = {
        "grid": usable.size,
        "incomplete_window": int((~complete).sum()),
        "no_target": int((complete & ~usable).sum()),
    }
    return [
        _fold(data, index, _splits(data, first, *test), usable, lost)
        for index, test in enumerate(pairwise(bounds))
    ]


def _usable(data: TrainingSet) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(T, S): whether a bar can be a row, and whether its window is complete."""
    symbols, length, features = data.features.shape
    finite = np.empty((length, symbols), bool)
    for span in chunks(length, features * symbols):
        finite[span] = finite_bars(data.features[:, span].transpose(2, 1, 0))
    complete = windows_complete(finite, data.manifest.config.window)
    return complete & (data.direction != NO_TARGET), complete


def _splits(data: TrainingSet, first: int, test: int, stop: int) -> tuple[Split, ...]:
    """Splits of the fold whose test span is [test, stop)."""
    config = data.manifest.config
    train = config.train_share / (config.train_share + config.validation_share)
    bounds = (first, first + int((test - first) * train), test, stop)
    return cut(bounds, SPLITS, horizon=config.horizon, embargo=config.embargo)


def _fold(
    data: TrainingSet, index: int, splits: tuple[Split, ...], usable: NDArray[np.bool_], lost: dict[str, int]
) -> Fold:
    manifest = data.manifest
    rows, counts = split_rows(usable, splits, manifest.config)
    counts = {**lost, **counts, "after_test": int(usable[splits[-1].stop :].sum())}
    learned = slice(splits[0].start - manifest.config.window + 1, splits[0].stop)
    normalisation, constant = normalisation_of(data.features[:, learned], manifest.feature_names)
    spans = {name: span_of(found, data.open_time, manifest.config) for name, found in rows.items()}
    digest = hashlib.sha256(manifest.training_set_id.encode())
    for name in SPLITS:
        digest.update(rows[name].tobytes())
    manifest = manifest.model_copy(
        update={
            "training_set_id": digest.hexdigest()[:16],
            "normalisation": normalisation,
            "constant_features": constant,
            "spans": spans,
            "counts": counts,
            "class_share": {name: class_share(data.direction, found) for name, found in rows.items()},
        }
    )
    return Fold(index, replace(data, manifest=manifest, rows=rows), spans, counts)

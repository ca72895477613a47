"""What the model is fed with at one bar: every symbol's newest window of features.

Recursive features (exponential averages and their like) remember all of their past, so their last bits depend
on where the history begins. A sweep therefore computes them on a history of one length, always the same for a
model, that ends at the bar: the answer is a function of the stored bars alone, whatever the process did
before. The history is long enough that what lies before it is below the resolution of float32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from kernels.catalogue import CATALOGUE_VERSION, spec
from kernels.compute import compute
from kernels.errors import UnknownFeature
from kernels.series import BAR_COLUMNS
from kernels.windows import complete_windows, window_view
from market.intervals import interval_ms
from market.store import KlineStore, Panel, part_of
from serving.bundle import Bundle
from serving.cache import ArrayCache, cache_key
from serving.errors import SweepError

SETTLING: Final = 20
"""History before the window, in warm-ups of the feature with the longest one.

Wilder's average of n bars keeps (1 - 1 / n) of the past a bar, other averages less, and its warm-up is n bars
or one less: after 20 of them about exp(-20) = 2e-9 is left, where a float32 resolves 6e-8. Measured on real
bars in tests/serving/test_inputs.py."""

LEAST_HISTORY: Final = 1_000
"""Bars before the window at least. The parabolic SAR does not fade but follows a path; two of them meet, for
good, at the first bars where both turn, which takes a few hundred bars."""

CacheUse = Literal["hit", "miss", "off"]


@dataclass(frozen=True)
class ModelInputs:
    """Windows that end at one bar.

    Attributes
    ----------
    windows
        (S, window, F) float32, read-only.
    complete
        (S,) bool: all values of the window are finite.
    cache
        Whether they came from the cache.
    """

    windows: NDArray[np.float32]
    complete: NDArray[np.bool_]
    cache: CacheUse


def history_bars(feature_names: Sequence[str], window: int) -> int:
    """Return the bars that a sweep reads for a model: its window and what its features need before that."""
    return window + max(LEAST_HISTORY, SETTLING * max(spec(name).warmup for name in feature_names))


def needed_columns(bundle: Bundle) -> tuple[str, ...]:
    """Return the panel columns that the bundle's features read.

    Raises
    ------
    SweepError
        The catalogue does not know a feature of the bundle.
    """
    try:
        inputs = [spec(name).inputs for name in bundle.feature_names]
    except UnknownFeature as error:
        raise SweepError(
            f"model {bundle.version} reads a feature that is unknown here: {error.what}",
            where=str(bundle.folder / "manifest.json"),
            remedy="use the klinecast version that made the bundle, or train and export again",
        ) from error
    found = dict.fromkeys((*BAR_COLUMNS, *(column for columns in inputs for column in columns)))
    return tuple(column for column in found if column != "open_time")


def read_panel(store: KlineStore, bundle: Bundle, interval: str, symbols: Sequence[str], end: int) -> Panel:
    """Return the bars that the model needs of these symbols, the last of them closed at `end` (ms).

    They come from the published panel where it is current and holds all of them, otherwise from the store: the
    same bits, a few milliseconds instead of a few hundred for 500 symbols.
    """
    columns = needed_columns(bundle)  # says which feature is unknown, and where
    bars = history_bars(bundle.feature_names, bundle.window)
    published = store.published_panel(interval)
    if published is not None:
        start = end - bars * interval_ms(interval)
        if (part := part_of(published, symbols, start, end, columns)) is not None:
            return part
    return store.panel(interval, symbols, bars=bars, end=end, columns=columns)


def model_inputs(panel: Panel, bundle: Bundle, cache: ArrayCache | None = None) -> ModelInputs:
    """Compute, or find in the cache, the windows that end at the panel's last bar.

    Parameters
    ----------
    panel
        `history_bars` bars of the symbols, the sweep's bar last.
    bundle
        Names the features and the window.
    cache
        Where they are looked up. The key holds a digest of every value of the panel, so that a bar that was
        revised or came late makes another entry.

    Raises
    ------
    SweepError
        The features that came out are not those of the bundle, in its order.
    """
    key = _key(panel, bundle) if cache is not None else ""
    if cache is not None and (found := cache.get(key)) is not None:
        windows, complete = found.get("windows"), found.get("complete")
        shape = (len(panel.symbols), bundle.window, len(bundle.feature_names))
        if (
            windows is not None
            and complete is not None
            and windows.shape == shape
            and windows.dtype == np.float32
        ):
            return ModelInputs(windows, complete.astype(bool, copy=False), "hit")
    windows, complete = _compute(panel, bundle)
    if cache is not None:
        cache.put(key, {"windows": windows, "complete": complete})
    return ModelInputs(windows, complete, "off" if cache is None else "miss")


def _compute(panel: Panel, bundle: Bundle) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    block = compute(panel, bundle.feature_names)
    if block.names != bundle.feature_names or block.symbols != panel.symbols:
        raise SweepError(
            f"features {', '.join(block.names)} of {len(block.symbols)} symbols do not match the model's "
            f"{', '.join(bundle.feature_names)} of {len(panel.symbols)}",
            where=str(bundle.folder / "manifest.json"),
            remedy="this is a defect: report it with the manifest",
        )
    last = block.values[:, -bundle.window :]
    windows = np.array(window_view(last, bundle.window)[0], order="C")
    windows.flags.writeable = False
    return windows, complete_windows(last, bundle.window)[0]


def _key(panel: Panel, bundle: Bundle) -> str:
    return cache_key(
        "windows",
        interval=panel.interval,
        symbols=_digest("\n".join(panel.symbols).encode()),
        features=_digest("\n".join(bundle.feature_names).encode()),
        catalogue=CATALOGUE_VERSION,
        window=bundle.window,
        bars=len(panel.open_time),
        open_time=int(panel.open_time[-1]),
        content=panel_digest(panel),
    )


def panel_digest(panel: Panel) -> str:
    """Return a digest of every value of a panel."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(panel.columns):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(panel.columns[name]).data)
    return digest.hexdigest()


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()

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
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kernels.catalogue import CATALOGUE_VERSION, spec
from kernels.compute import compute
from kernels.joins import IntervalFeatures, JoinedFeatures
from kernels.series import BAR_COLUMNS
from kernels.windows import complete_windows, window_view
from market.intervals import floor_time, interval_ms
from market.store import KlineStore, Panel, part_of
from serving.bundle import Bundle
from serving.cache import ArrayCache, cache_key
from serving.errors import SweepError
from serving.intervals import IntervalPart, interval_parts

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


def needed_columns(features: Sequence[str]) -> tuple[str, ...]:
    """Return the panel columns that features read."""
    found = dict.fromkeys((*BAR_COLUMNS, *(column for name in features for column in spec(name).inputs)))
    return tuple(column for column in found if column != "open_time")


def read_panels(
    store: KlineStore, bundle: Bundle, own: str, symbols: Sequence[str], end: int
) -> tuple[Panel, ...]:
    """Return the bars that the model needs of these symbols, of its own interval and of those joined to it.

    The last bar of its own is closed at `end` (ms), the last one of another interval belongs to that bar. They come
    from the published panel where it is current and holds all of them, otherwise from the store: the same bits, a
    few milliseconds instead of a few hundred for 500 symbols.
    """
    return tuple(_read(store, part, symbols, end) for part in interval_parts(bundle, own))


def _read(store: KlineStore, part: IntervalPart, symbols: Sequence[str], end: int) -> Panel:
    columns, bars = needed_columns(part.computed), part.history
    stop = floor_time(end, part.interval)
    published = store.published_panel(part.interval)
    if published is not None:
        start = stop - bars * interval_ms(part.interval)
        if (found := part_of(published, symbols, start, stop, columns)) is not None:
            return found
    return store.panel(part.interval, symbols, bars=bars, end=stop, columns=columns)


def model_inputs(panels: Sequence[Panel], bundle: Bundle, cache: ArrayCache | None = None) -> ModelInputs:
    """Compute, or find in the cache, the windows that end at the last bar of the model's own interval.

    Parameters
    ----------
    panels
        As `read_panels` gives them.
    bundle
        Names the features and the window.
    cache
        Where they are looked up. The key holds a digest of every value of the panels, so that a bar that was
        revised or came late makes another entry.

    Raises
    ------
    SweepError
        The features that came out are not those of the bundle.
    """
    key = _key(panels, bundle) if cache is not None else ""
    if cache is not None and (found := cache.get(key)) is not None:
        windows, complete = found.get("windows"), found.get("complete")
        shape = (len(panels[0].symbols), bundle.window, len(bundle.feature_names))
        if (
            windows is not None
            and complete is not None
            and windows.shape == shape
            and windows.dtype == np.float32
        ):
            return ModelInputs(windows, complete.astype(bool, copy=False), "hit")
    windows, complete = _compute(panels, bundle)
    if cache is not None:
        cache.put(key, {"windows": windows, "complete": complete})
    return ModelInputs(windows, complete, "off" if cache is None else "miss")


def _compute(panels: Sequence[Panel], bundle: Bundle) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    own, *longer = (
        IntervalFeatures(
            part.interval, interval_ms(part.interval), compute(panel, part.computed), part.features
        )
        for part, panel in zip(interval_parts(bundle, panels[0].interval), panels, strict=True)
    )
    joined = JoinedFeatures(own, longer)
    if set(joined.names) != set(bundle.feature_names) or joined.symbols != panels[0].symbols:
        raise SweepError(
            f"features {', '.join(joined.names)} of {len(joined.symbols)} symbols do not match the model's "
            f"{', '.join(bundle.feature_names)} of {len(panels[0].symbols)}",
            where=str(bundle.folder / "manifest.json"),
            remedy="this is a defect: report it with the manifest",
        )
    bars = len(joined.open_time)
    last = joined.read(bars - bundle.window, bars)[
        [joined.names.index(name) for name in bundle.feature_names]
    ]
    windows = np.array(window_view(last, bundle.window)[0], order="C")
    windows.flags.writeable = False
    return windows, complete_windows(last, bundle.window)[0]


def _key(panels: Sequence[Panel], bundle: Bundle) -> str:
    own = panels[0]
    return cache_key(
        "windows",
        interval=own.interval,
        joined=" ".join(f"{panel.interval}:{len(panel.open_time)}" for panel in panels[1:]),
        symbols=_digest("\n".join(own.symbols).encode()),
        features=_digest("\n".join(bundle.feature_names).encode()),
        catalogue=CATALOGUE_VERSION,
        window=bundle.window,
        bars=len(own.open_time),
        open_time=int(own.open_time[-1]),
        content=_digest("".join(map(panel_digest, panels)).encode()),
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

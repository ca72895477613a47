"""Published features and close prices that models are compared, or watched, on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from assets.platform import Platform
from kernels.feature_store import open_latest
from kernels.joins import IntervalFeatures, JoinedFeatures, features_by_interval
from market.intervals import interval_ms
from training.export.manifest import Manifest
from training.lifecycle.unseen import Bars


def features_for(home: Path, manifests: Sequence[Manifest | None]) -> JoinedFeatures:
    """Join the published features that models need, as far as they are there.

    Parameters
    ----------
    home
        The platform's home folder.
    manifests
        The first gives the interval; models of another one add nothing, and None stands for no model.

    Raises
    ------
    KernelError
        Nothing is published of an interval.
    """
    models = [manifest for manifest in manifests if manifest is not None]
    own = models[0].intervals[0]
    same = [manifest for manifest in models if manifest.intervals[0] == own]
    needed = [name for m in same for name in (*m.feature_names, m.volatility_feature)]
    parts = [
        _published(home, interval, names)
        for interval, names in features_by_interval(dict.fromkeys(needed), own).items()
    ]
    return JoinedFeatures(parts[0], parts[1:])


def bars_for(platform: Platform, manifests: Sequence[Manifest | None]) -> Bars:
    """Give the features of `features_for` with close prices of the same bars.

    Raises
    ------
    KernelError
        Nothing is published of an interval.
    """
    features = features_for(platform.home, manifests)
    own = next(manifest for manifest in manifests if manifest is not None).intervals[0]
    with platform.store() as store:
        start, stop = int(features.open_time[0]), int(features.open_time[-1]) + 1
        panel = store.panel(own, features.symbols, start=start, end=stop, columns=("close",))
    return Bars(features, panel.columns["close"], own)


def _published(home: Path, interval: str, names: tuple[str, ...]) -> IntervalFeatures:
    block = open_latest(home, interval)
    chosen = tuple(name for name in names if name in block.names)
    return IntervalFeatures(interval, interval_ms(interval), block, chosen)

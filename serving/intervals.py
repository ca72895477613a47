"""What a model reads of which interval: its own one, and the longer ones whose features are joined to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kernels.catalogue import spec
from kernels.errors import UnknownFeature
from kernels.joins import features_by_interval, joined_name, longer_bars, split_name
from market.errors import MarketError
from market.intervals import interval_ms, is_multiple
from serving.bundle import MANIFEST_FILE, Bundle
from serving.errors import BundleError, SweepError

SETTLING: Final = 20
"""History before the window, in warm-ups of the feature with the longest one.

Wilder's average of n bars keeps (1 - 1 / n) of the past a bar, other averages less, and its warm-up is n bars
or one less: after 20 of them about exp(-20) = 2e-9 is left, where a float32 resolves 6e-8. Measured on real
bars in tests/serving/test_inputs.py."""

LEAST_HISTORY: Final = 1_000
"""Bars before the window at least. The parabolic SAR does not fade but follows a path; two of them meet, for
good, at the first bars where both turn, which takes a few hundred bars."""


@dataclass(frozen=True)
class IntervalPart:
    """What a model reads of one interval.

    Attributes
    ----------
    interval
        Which.
    features
        As the catalogue calls them.
    names
        As the model calls them.
    window
        Bars that one window shows: the model's window, or the longer bars that can belong to it.
    computed
        Features that are computed to have them: those of the model's own interval where these are among them,
        so that one compiled program does for both.
    """

    interval: str
    features: tuple[str, ...]
    names: tuple[str, ...]
    window: int
    computed: tuple[str, ...]

    @property
    def warmup(self) -> int:
        """Bars before the window that the features need at least."""
        return max(spec(name).warmup for name in self.features)

    @property
    def history(self) -> int:
        """Bars that a sweep reads."""
        return history_bars(self.features, self.window)


def history_bars(features: Sequence[str], window: int) -> int:
    """Return the bars that a sweep reads for a window: it, and what its features need before that."""
    return window + max(LEAST_HISTORY, SETTLING * max(spec(name).warmup for name in features))


def own_intervals(bundle: Bundle) -> tuple[str, ...]:
    """Intervals that a model can be swept on: the first one where it joins features of several."""
    return bundle.intervals[:1] if _joins(bundle) else bundle.intervals


def interval_parts(bundle: Bundle, own: str) -> tuple[IntervalPart, ...]:
    """Return what a model reads, its own interval first.

    Raises
    ------
    BundleError
        The manifest's features and intervals do not fit together.
    SweepError
        The catalogue does not know a feature of the model.
    """
    try:
        found = features_by_interval(bundle.feature_names, own)
        odd = [interval for interval in found if interval != own and not is_multiple(interval, own)]
    except (UnknownFeature, MarketError) as error:
        raise _unusable(bundle, error.what) from error
    if _joins(bundle) and tuple(found) != bundle.intervals:
        raise _unusable(bundle, f"features of {' '.join(found)}, and intervals {' '.join(bundle.intervals)}")
    if not found[own]:
        raise _unusable(bundle, f"no feature of the model's own interval {own}")
    if odd:
        raise _unusable(bundle, f"{' '.join(odd)} bars are no whole number of {own} bars")
    _check_known(bundle, [feature for features in found.values() for feature in features])
    parts = [IntervalPart(own, found[own], found[own], bundle.window, found[own])]
    for interval in [interval for interval in found if interval != own]:
        features = found[interval]
        parts.append(
            IntervalPart(
                interval,
                features,
                tuple(joined_name(feature, interval) for feature in features),
                longer_bars(bundle.window, interval_ms(own), interval_ms(interval)),
                found[own] if set(features) <= set(found[own]) else features,
            )
        )
    return tuple(parts)


def _joins(bundle: Bundle) -> bool:
    """Whether it has features of longer intervals: a manifest without them names alternatives."""
    return any(split_name(name)[1] is not None for name in bundle.feature_names)


def _check_known(bundle: Bundle, features: Sequence[str]) -> None:
    try:
        for feature in features:
            spec(feature)
    except UnknownFeature as error:
        raise SweepError(
            f"model {bundle.version} reads a feature that is unknown here: {error.what}",
            where=str(bundle.folder / MANIFEST_FILE),
            remedy="use the klinecast version that made the bundle, or train and export again",
        ) from error


def _unusable(bundle: Bundle, problem: str) -> BundleError:
    return BundleError(
        f"the manifest of the model bundle cannot be used: {problem}",
        where=str(bundle.folder / MANIFEST_FILE),
        remedy="restore the bundle from a backup, or train and export again",
    )

"""Every feature the platform knows: name, formula, source, parameters, inputs, warm-up, range."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kernels import formulas
from kernels.errors import KernelError, place_in
from kernels.generate import trace
from kernels.layout import reach, warmup
from kernels.panel import DAY_MS
from kernels.registry import FAMILIES, Family, find_family, forget
from kernels.series import BAR_COLUMNS, Graph

CATALOGUE_VERSION = 2
"""Raised when a feature's values change; stored with published features."""

USER_FILES_VARIABLE = "KLINECAST_FEATURE_FILES"
"""Paths of Python files with features of one's own, separated as in PATH."""


@dataclass(frozen=True)
class FeatureSpec:
    """One feature, parameters fixed.

    Attributes
    ----------
    name
        Name in feature blocks, e.g. ``rsi_14``.
    summary, formula, source
        What it is, how it is computed (X[n] = value n bars ago) and where that comes from.
    parameters
        Values by name.
    inputs
        Columns of the panel that it reads, or ``open_time``.
    warmup
        Bars at the start of a history (and at least as many after nothing is known) without a value.
    value_range
        Least and greatest value; None = unbounded.
    scale_free
        Unchanged when all prices, or all volumes, are multiplied by a constant.
    group
        Family of formulas.
    """

    name: str
    summary: str
    formula: str
    source: str
    parameters: Mapping[str, float | int]
    inputs: tuple[str, ...]
    warmup: int
    value_range: tuple[float | None, float | None]
    scale_free: bool
    group: str


def spec(name: str) -> FeatureSpec:
    """Describe any feature, listed or not, from its name.

    Raises
    ------
    UnknownFeature
        No family of features has such names.
    """
    return _spec(name, find_family(name))


@lru_cache(maxsize=4096)
def _spec(name: str, family: Family) -> FeatureSpec:
    (output,) = trace(Graph(), [name])
    nodes = reach([output])
    columns = [n.args[0] for n in nodes if n.op == "column"]
    if any(n.op == "clock" for n in nodes):
        columns.append("open_time")
    return FeatureSpec(
        name=name,
        summary=(family.formula.__doc__ or name).strip().split("\n")[0],
        formula=family.text,
        source=family.source,
        parameters=MappingProxyType(family.match(name) or {}),
        inputs=tuple(dict.fromkeys(columns)),
        warmup=warmup(output),
        value_range=family.value_range,
        scale_free=family.scale_free,
        group=family.group,
    )


def _load_formulas() -> None:
    for module in pkgutil.iter_modules(formulas.__path__):
        importlib.import_module(f"{formulas.__name__}.{module.name}")
    for name in filter(None, os.environ.get(USER_FILES_VARIABLE, "").split(os.pathsep)):
        load_features(Path(name))


def load_features(path: Path) -> tuple[str, ...]:
    """Register the features that a Python file defines with `registry.feature`.

    Returns
    -------
    tuple of str
        Names of the listed instances that the file adds; those of a file that is loaded already are the same again.

    Raises
    ------
    KernelError
        The file cannot be read or run, or defines no feature; nothing of it stays registered.
    """
    # one module per file, so that loading it twice is loading it once
    name = f"klinecast_features_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    if name not in sys.modules:
        before = set(FAMILIES)
        try:
            _execute(path, name)
            added = [family for template, family in FAMILIES.items() if template not in before]
            if not added:
                raise KernelError(
                    "a file of features defines none",
                    where=str(path),
                    remedy="decorate its formulas with kernels.registry.feature",
                )
            listed = {s.name: s for family in added for s in _listed(family)}
        except KernelError:
            forget(set(FAMILIES) - before)
            sys.modules.pop(name, None)
            raise
        _CATALOGUE.update(listed)
        _LISTED_BY[name] = tuple(listed)
    return _LISTED_BY[name]


def _execute(path: Path, name: str) -> None:
    """Run a file as a module of that name."""
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None or not path.is_file():
        raise KernelError(
            "no such file of features",
            where=str(path),
            remedy=f"correct the path, here or in {USER_FILES_VARIABLE}; its name ends in .py",
        )
    sys.modules[name] = module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except KernelError:
        raise
    except Exception as error:
        raise KernelError(
            f"cannot load features: {type(error).__name__}: {error}",
            where=place_in(str(path), error),
            remedy="correct the file; running it with Python shows where it fails",
        ) from error


def _listed(family: Family) -> list[FeatureSpec]:
    """Describe the instances of a family that the catalogue lists."""
    return [spec(family.name(values)) for values in family.instances]


_LISTED_BY: dict[str, tuple[str, ...]] = {}  # module of a file of features -> names
_CATALOGUE: dict[str, FeatureSpec] = {}
CATALOGUE: Mapping[str, FeatureSpec] = MappingProxyType(_CATALOGUE)
"""The listed features by name. Others with other parameters are as good: `spec("rsi_21")`."""

_load_formulas()
_CATALOGUE.update({s.name: s for family in FAMILIES.values() for s in _listed(family)})

_MODEL_FEATURES = (
    "log_return_1", "log_return_5", "realised_vol_30", "log_realised_vol_30", "log_parkinson_vol_1",
    "log_parkinson_vol_6", "log_parkinson_vol_50", "natr_14", "bollinger_position_20_2", "bollinger_width_20_2",
    "rsi_14", "ppo_hist_12_26_9", "stoch_k_14_3", "williams_r_14", "cci_20", "mfi_14", "adx_14", "aroon_osc_14",
    "roc_10", "ma_ratio_10_50", "volume_ratio_20", "vwap_distance_20", "cmf_20", "taker_imbalance",
    "trade_size_ratio_20", "hour_sin", "hour_cos", "hour_sin_2", "hour_cos_2", "hour_sin_3", "hour_cos_3",
    "hour_sin_4", "hour_cos_4", "day_sin", "day_cos",
)  # fmt: skip


def default_features() -> tuple[str, ...]:
    """Names of all listed features, in the catalogue's order."""
    return tuple(CATALOGUE)


LONG_HISTORY_DAYS: Final = 90
"""From here on a forecaster sees the finer waves of the day: in few days it would learn by heart when it was wild."""

_OF_LONG_HISTORIES: Final = frozenset(f"hour_{wave}_{k}" for wave in ("sin", "cos") for k in (2, 3, 4))


def model_features(open_time: NDArray[np.int64] | None = None) -> tuple[str, ...]:
    """Scale-free features that the forecaster is fed with.

    Parameters
    ----------
    open_time
        Of the bars that it learns from, ms, (T,); by default a long history.
    """
    if open_time is None or (len(open_time) and open_time[-1] - open_time[0] >= LONG_HISTORY_DAYS * DAY_MS):
        return _MODEL_FEATURES
    return tuple(name for name in _MODEL_FEATURES if name not in _OF_LONG_HISTORIES)


def joined_features() -> tuple[str, ...]:
    """Those of the model's features that are worth reading of longer intervals too: the clock is the same on all."""
    return tuple(name for name in _MODEL_FEATURES if spec(name).inputs != ("open_time",))


def available(features: Sequence[str], columns: Mapping[str, object] | Sequence[str]) -> tuple[str, ...]:
    """Those of the features whose inputs are among the columns.

    A source of plain OHLCV bars has no takers and no trades; features that need them fall away.
    """
    have = {*columns, *BAR_COLUMNS, "open_time"}
    return tuple(name for name in features if have.issuperset(spec(name).inputs))

"""Which of a bundle's exported forms to run: the one that is fastest here, by measurement.

A form is a candidate if its file passed the comparison with the Keras model and answers each window without
regard to the others of a chunk. The choice and its figures are kept beside the bundle's files, with the
machine and the runtimes that they hold for; on another machine, or with other runtimes, it is measured anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import ceil
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serving.bundle import Bundle
from serving.errors import ServingError
from serving.form_record import CHOICE_FILE, candidates, facts_of, keep_record, kept_record
from serving.predictor import CHUNK, THREADS, Predictor

logger = logging.getLogger(__name__)

ENOUGH: Final = 0.9
"""Another form than the float ONNX file is taken if it needs at most this share of its time: below that, the
next measurement may say otherwise, and the float file is the one that everything else was judged with."""

ROUNDS: Final = 9
WINS: Final = 8
"""Of so many rounds another form must need less time than the float file in so many: of two equal files, one
wins that often by chance in 2 of 100 measurements, and then hardly ever by `ENOUGH`."""

_LEAST_MS: Final = 30.0
_MOST_PASSES: Final = 5
"""Small models are run more often in each round, the fastest pass counting: they are done in less time than the
system takes away from a process for another one."""

_HOPELESS: Final = 3.0
"""A form that takes longer than so many times the float file's time in a first measurement is not timed further."""

_WINDOWS: Final = 10 * CHUNK


def with_fastest_form(bundle: Bundle) -> Bundle:
    """Return the bundle with `model_file` set to the form to run, measured now unless that is on record.

    A file that the manifest's metrics name as `serving_file` is a person's decision and stays.
    """
    if "serving_file" in bundle.manifest["metrics"]:
        return bundle
    return replace(bundle, model_file=str(form_choice(bundle)["chosen"]))


def form_choice(bundle: Bundle, tell: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Return the record of a choice: `chosen`, and `machine`, `runtimes`, `files`, `forms` that it rests upon.

    `tell` is told whether forms are being measured, or which had been before.

    `forms` has per file the median `ms` for `windows` windows, whether it is `independent` of neighbours, and how it
    did beside the float ONNX file in the same rounds: the median `ratio` of their times, and in how many rounds it was
    the faster (`wins`). Where the record cannot be kept nothing is measured, and the float ONNX file is chosen: else
    each restart would measure again, and could choose another file, whose answers differ.
    """
    names = candidates(bundle)
    facts = facts_of(bundle, names)
    by_default = {**facts, "forms": {}, "chosen": bundle.model_file}
    if names == [bundle.model_file]:
        return by_default
    path = bundle.folder / CHOICE_FILE
    tell = tell or (lambda text: None)
    if (kept := kept_record(path, facts)) is not None:
        tell(f"serving runs {kept['chosen']} here, as measured before")
        return kept
    if not keep_record(path, None):
        return by_default
    tell("measuring which file answers fastest here")
    forms = measure(bundle, names)
    record = {**facts, "windows": _WINDOWS, "threads": THREADS, "forms": forms, "chosen": choose(forms)}
    return record if keep_record(path, record) else by_default


def choose(forms: Mapping[str, Mapping[str, Any]]) -> str:
    """Name the fastest form that is clearly so (`ENOUGH`, `WINS`) and whose answers do not depend on neighbours.

    Without such a one: the first form.
    """
    default, *others = forms
    fit = [
        name
        for name in others
        if forms[name]["independent"] and forms[name]["wins"] >= WINS and forms[name]["ratio"] <= ENOUGH
    ]
    return min(fit, key=lambda name: float(forms[name]["ratio"]), default=default)


def measure(bundle: Bundle, names: list[str]) -> dict[str, dict[str, Any]]:
    """Time forms on made-up windows, in turns, as serving runs them; one that cannot be run is left out.

    Parameters
    ----------
    bundle
        Whose forms.
    names
        Theirs, the one that the others are held against first.

    Returns
    -------
    dict
        Name to `ms`, `independent`, `ratio` and `wins`; see `form_choice`.

    Raises
    ------
    ServingError
        The first one cannot be run.
    """
    windows, default = _windows(bundle), names[0]
    predictors: dict[str, Predictor] = {}
    independent: dict[str, bool] = {}
    for name in names:
        try:
            predictor = Predictor(replace(bundle, model_file=name), THREADS)
            predictor.predict(windows)  # also warms up
            independent[name] = _independent(predictor, windows)
            predictors[name] = predictor
        except ServingError as error:
            if name == default:
                raise
            logger.warning("%s is not considered for serving: %s", name, error)
    once = {name: _quickest(predictor, windows, 2) for name, predictor in predictors.items()}
    near = {name: one for name, one in predictors.items() if once[name] <= _HOPELESS * once[default]}
    times: dict[str, list[float]] = {name: [] for name in near}
    passes = min(_MOST_PASSES, ceil(_LEAST_MS / once[default]))
    for at in range(ROUNDS):
        turns = list(near.items())
        for name, predictor in turns if at % 2 else reversed(turns):
            times[name].append(_quickest(predictor, windows, passes))
    figures = {
        name: (times[name], times[default]) if name in near else ([once[name]], [once[default]])
        for name in once
    }
    return {
        name: {"ms": round(median(taken), 3), **_beside(taken, beside), "independent": independent[name]}
        for name, (taken, beside) in figures.items()
    }


def _quickest(predictor: Predictor, windows: NDArray[np.float32], passes: int) -> float:
    return min(_milliseconds(predictor, windows) for _ in range(passes))


def _milliseconds(predictor: Predictor, windows: NDArray[np.float32]) -> float:
    start = time.perf_counter()
    predictor.predict(windows)
    return 1e3 * (time.perf_counter() - start)


def _beside(taken: Sequence[float], default: Sequence[float]) -> dict[str, Any]:
    """Compare times round by round: what slows the machine down for a while slows both."""
    ratios = [one / other for one, other in zip(taken, default, strict=True)]
    return {"ratio": round(median(ratios), 4), "wins": sum(ratio < 1 for ratio in ratios)}


def _independent(predictor: Predictor, windows: NDArray[np.float32]) -> bool:
    """Whether windows get the same bits among other neighbours, at other places."""
    among = predictor.predict(windows[:CHUNK])
    alone = [predictor.predict(windows[k : k + 1]) for k in range(0, CHUNK, 5)]
    return all(
        one.tobytes() == many[5 * at : 5 * at + 1].tobytes()
        for at, answer in enumerate(alone)
        for one, many in zip(answer.outputs().values(), among.outputs().values(), strict=True)
    )


def _windows(bundle: Bundle) -> NDArray[np.float32]:
    """Windows as spread as those of the training span, from a seed."""
    statistics = bundle.manifest.get("normalisation", {})
    mean, std = (np.asarray(statistics.get(name, default)) for name, default in (("mean", 0.0), ("std", 1.0)))
    noise = np.random.default_rng(0).normal(size=(_WINDOWS, bundle.window, len(bundle.feature_names)))
    return (mean + std * noise).astype(np.float32)

"""What the conversions to ONNX and TFLite share: convert in a child process, check, then publish.

A converter gets hidden file names to write to. Its files are opened, run and compared with the Keras model
before they are moved to where they were asked for; what fails is removed and never seen.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.child_process import run_child
from training.errors import TrainingError
from training.export.exported_files import ParityError
from training.export.parity import (
    FLOAT_TOLERANCE,
    MIN_AGREEMENT,
    ParityReport,
    compare,
    ensure_reference,
)
from training.export.reference_outputs import Reference, checked_windows, store_reference
from training.files import publish
from training.network.forecaster_files import ForecasterMeta, load_meta

log = logging.getLogger(__name__)


class ExportError(TrainingError):
    """A model could not be exported."""


@dataclass(frozen=True)
class Wanted:
    """A file that a converter is to make."""

    option: str
    """Command line option of the converter that takes the file name."""
    path: Path
    quantised: bool
    """Judged by agreement and left out if it is not good, instead of by tolerance and refused."""


@dataclass(frozen=True)
class ExportedModel:
    """Files of one conversion.

    `reports` has an entry per file name that was converted and could be run; a quantised file that did not
    keep its bound is in `reports`, but not in `files`.
    """

    files: tuple[Path, ...]
    reports: dict[str, ParityReport]


def convert(
    converter: Sequence[str],
    forecaster_dir: Path,
    windows: np.ndarray,
    wanted: Sequence[Wanted],
    *,
    calibration: np.ndarray | None,
    timeout: float,
) -> ExportedModel:
    """Run a converter on a trained forecaster and publish what proves good.

    Parameters
    ----------
    converter
        Command that takes --forecaster, --windows, --calibration and the options in `wanted`.
    forecaster_dir
        Folder of the trained forecaster; the answers of the Keras model are stored there too.
    windows
        (n, window, F) raw features of real bars, finite, to compare on.
    wanted
        Files to make.
    calibration
        (n, window, F) windows of the training split, for quantised files.
    timeout
        Seconds for each child process.

    Raises
    ------
    ExportError
        The converter failed or left no file; nothing was published.
    ParityError
        A float file cannot be run or answers otherwise than the Keras model; nothing was published.
    """
    meta = load_meta(forecaster_dir)
    windows = checked_windows(windows, meta)
    if calibration is not None:
        calibration = checked_windows(calibration, meta)
    folder = wanted[0].path.parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as hidden:
        made = {want: Path(hidden) / want.path.name for want in wanted}
        options = {want.option: path for want, path in made.items()}
        for name, array in (("windows", windows), ("calibration", calibration)):
            if array is not None:
                options[name] = Path(hidden) / f"{name}.npy"
                np.save(options[name], array, allow_pickle=False)
        _run(converter, {"forecaster": forecaster_dir, **options}, wanted, timeout)
        reports = _judge(made, ensure_reference(forecaster_dir, windows, timeout=timeout), timeout)
        good = [want for want in wanted if want.path.name in reports and reports[want.path.name].passed]
        for want in good:
            publish(made[want], want.path)
    return ExportedModel(tuple(want.path for want in good), reports)


def _run(
    converter: Sequence[str], options: dict[str, Path], wanted: Sequence[Wanted], timeout: float
) -> None:
    """Convert; should that fail, once more without what is quantised: those routes can crash, with good weights too."""
    optional = {want.option for want in wanted if want.quantised}
    try:
        run_child(converter, options, doing="the conversion", timeout=timeout)
    except TrainingError as error:
        if not optional:
            raise ExportError(error.what, where=error.where, remedy=error.remedy) from error
        log.warning("converting without %s, after this: %s", ", ".join(sorted(optional)), error)
        fewer = {name: path for name, path in options.items() if name not in optional}
        for name in optional:
            options[name].unlink(missing_ok=True)
        _run(converter, fewer, [want for want in wanted if not want.quantised], timeout)


def _judge(made: dict[Wanted, Path], reference: Reference, timeout: float) -> dict[str, ParityReport]:
    """Compare every file with the Keras model; a float file that is not good is an error.

    A quantised file that is absent or cannot be run has no report.
    """
    reports = {}
    for want, path in made.items():
        try:
            report = _judge_one(want, path, reference, timeout)
        except TrainingError as error:
            if not want.quantised:
                raise
            log.warning("%s is left out: %s", path.name, error)
            continue
        reports[path.name] = report
        if not report.passed:
            log.warning("%s is left out: %s", path.name, report)
    return reports


def _judge_one(want: Wanted, path: Path, reference: Reference, timeout: float) -> ParityReport:
    if not path.is_file():
        raise ExportError(
            f"the conversion ended without an error, but left no {path.name}",
            where=str(want.path),
            remedy="export the model again",
        )
    bounds = (None, MIN_AGREEMENT) if want.quantised else (FLOAT_TOLERANCE, None)
    report = compare(path, reference, bounds[0], min_agreement=bounds[1], timeout=timeout)
    if not report.passed and not want.quantised:
        raise ParityError(
            f"the exported {path.name} does not answer as the Keras model does: {report}",
            where=str(want.path),
            remedy="nothing was published; report it with the library versions in use",
        )
    return report


def converter_arguments(prog: str, options: Sequence[str]) -> argparse.ArgumentParser:
    """Command line of a converter."""
    parser = argparse.ArgumentParser(prog=f"python -m {prog}")
    parser.add_argument("--forecaster", type=Path, required=True, help="folder of a trained forecaster")
    parser.add_argument("--windows", type=Path, help=".npy of windows to store the Keras answers on")
    parser.add_argument("--calibration", type=Path, help=".npy of training windows to quantise with")
    for option in options:
        parser.add_argument(f"--{option}", type=Path, help="file to write")
    return parser


def load_for_conversion(forecaster_dir: Path, windows: Path | None) -> tuple[Any, ForecasterMeta]:
    """In the child process: load the forecaster, and store its answers unless they are."""
    from training.network.backend import limit_threads
    from training.network.forecaster_files import load_forecaster

    limit_threads()
    model, meta = load_forecaster(forecaster_dir)
    if windows is not None:
        store_reference(model, meta, np.load(windows, allow_pickle=False), forecaster_dir)
    return model, meta


def load_calibration(path: Path | None, meta: ForecasterMeta) -> np.ndarray:
    """In the child process: windows (n, window, F) to quantise with."""
    if path is None:
        raise SystemExit("--calibration is needed for a quantised file")
    return checked_windows(np.load(path, allow_pickle=False), meta)

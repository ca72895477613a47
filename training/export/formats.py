"""The formats that a forecaster is exported to, and the export: a child process converts, what proves good stays.

`training.export.export_onnx` and `training.export.export_tflite` are the child processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.child_process import module_command
from training.export.conversion import ExportedModel, Wanted, convert


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes
    ----------
    name
        How it is called.
    converter
        Command of the child process.
    ending
        Of the float32 file, which the converter writes to ``--out``.
    quantised
        Endings of the quantised files by the converter's options.
    """

    name: str
    converter: tuple[str, ...]
    ending: str
    quantised: Mapping[str, str]

    @property
    def files(self) -> tuple[str, ...]:
        """Names in a bundle, the float32 file first."""
        return tuple(f"model{ending}" for ending in (self.ending, *self.quantised.values()))

    def options(self, folder: Path) -> dict[str, Path]:
        """Files in a folder by the options of the converter that make them."""
        return dict(zip(("out", *self.quantised), (folder / name for name in self.files), strict=True))


ONNX = Format("ONNX", module_command("training.export.export_onnx"), ".onnx", {"int8": ".int8.onnx"})
TFLITE = Format(
    "TFLite",
    module_command("training.export.export_tflite"),
    ".tflite",
    {"dynamic-range": ".dynamic.tflite", "int8": ".int8.tflite"},
)


def export(
    form: Format,
    forecaster_dir: Path,
    folder: Path,
    windows: np.ndarray,
    *,
    calibration: np.ndarray | None = None,
    timeout: float = 600.0,
    converter: Sequence[str] | None = None,
) -> ExportedModel:
    """Export a trained forecaster, in a child process, and publish the files that prove good.

    Parameters
    ----------
    form
        `ONNX` or `TFLITE`.
    forecaster_dir
        Folder of the trained forecaster.
    folder
        Where the files are to appear, named as `form` says.
    windows
        (n, window, F) raw features of real bars, finite, to compare with the Keras model on; see
        :func:`training.export.reference_outputs.real_windows`.
    calibration
        (n, window, F) windows of the training split, to quantise with; without them only the float32 file is made. A
        quantised file that agrees with the Keras model on less than 99 % of `windows` is reported, but not published.
    timeout
        Seconds for each child process.
    converter
        Another command than that of the format.

    Raises
    ------
    ExportError, ParityError
        See :func:`training.export.conversion.convert`; nothing was published.
    """
    wanted = [
        Wanted(option, path, quantised=option in form.quantised)
        for option, path in form.options(Path(folder)).items()
        if option not in form.quantised or calibration is not None
    ]
    return convert(
        converter or form.converter,
        Path(forecaster_dir),
        windows,
        wanted,
        calibration=calibration,
        timeout=timeout,
    )

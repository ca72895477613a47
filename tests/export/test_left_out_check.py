"""A quantised file that is left out of a bundle is told of: the check of its agreement warns, and blocks nothing."""

from __future__ import annotations

import dagster as dg

from assets.model_checks import _left_out


def test_a_file_that_missed_its_bound_is_a_warning_with_its_figures(exported) -> None:
    report = exported.tflite.reports["model.int8.tflite"].model_copy(update={"agreement": 0.9641})
    for found, words in ((_left_out(report), "same class in 96.41%"), (_left_out(None), "could not be made")):
        assert not found.passed
        assert found.severity is dg.AssetCheckSeverity.WARN
        assert words in found.metadata["not published"].text

"""The figures as a page for people."""

from __future__ import annotations

from typing import Any

LABELS = {
    "onnx_f32": "`model.onnx`",
    "onnx_int8": "`model.int8.onnx`",
    "tflite": "`model.tflite`",
    "tflite_dynamic": "`model.dynamic.tflite`",
    "tflite_int8": "`model.int8.tflite`",
}

_COLUMNS = (
    "file",
    "bytes",
    "smaller by",
    "same class",
    "quantile error",
    "decision flips",
    "published",
    "one thread, ms",
    "two threads, ms",
)


def page(figures: dict[str, Any]) -> str:
    """Markdown."""
    ms, size = figures["ms"], figures["bytes"]
    lines = [
        "# Exported models: speed, size, agreement",
        "",
        "Written by",
        "",
        f"    python -m benchmarks.inference --data DIR --epochs {figures['epochs']} --write docs/inference.md",
        "",
        f"on {figures['data']}: a forecaster of width {figures['width']}, and {figures['windows']} windows of its test",
        "split. Times are medians of calls that took turns, in ms of wall time, on 2 cores that others used too:",
        "look at the ratios, more than at the times.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'---|' * len(_COLUMNS)}",
        *(_row(figures, form) for form in LABELS),
        "",
        f"- Fastest: {figures['fastest']}.",
        f"  {figures['predict_each_ratio']:,.0f} times as fast as Keras `predict` per window ({_told(ms, 'each')}),",
        f"  {figures['predict_batched_ratio']:.1f} times as fast as one such call for all ({_told(ms, 'batched')}).",
        f"- The saved Keras model (`.keras`) has {size['keras']:,} bytes: the INT8 ONNX file is",
        f"  {1 - figures['onnx_int8_keras_share']:.1%} smaller,",
        f"  the INT8 TFLite file {1 - figures['tflite_int8_keras_share']:.1%}.",
        *_wide(figures),
        f"- Largest difference of the float files from Keras: {figures['parity_onnx']:.1e} (ONNX),",
        f"  {figures['parity_tflite']:.1e} (TFLite).",
        "- Quantile error: mean difference, in volatilities over the horizon. Decision flips: share of windows where",
        "  a trade on the side whose probability is at least 0.4 would be another one. Published: whether the file",
        "  keeps its bound, and so would be in a bundle.",
    ]
    return "\n".join(lines) + "\n"


def _told(ms: dict[str, float], how: str) -> str:
    return f"{ms[f'keras predict_{how}']:,.0f} ms"


def _wide(figures: dict[str, Any]) -> list[str]:
    if "wide_bytes" not in figures:
        return []
    return [
        f"- At a width of 128 the INT8 file is {1 - figures['wide_onnx_int8_size_share']:.1%} smaller than the float",
        f"  file (ONNX), and {1 - figures['wide_tflite_int8_size_share']:.1%} (TFLite).",
    ]


def _row(figures: dict[str, Any], form: str) -> str:
    report, size = figures["parity"][form], figures["bytes"]
    whole = size["onnx_f32" if form.startswith("onnx") else "tflite"]
    two = figures["ms"].get(f"{form}, two threads")
    cells = (
        LABELS[form],
        f"{size[form]:,}",
        "" if size[form] == whole else f"{1 - size[form] / whole:.1%}",
        f"{report['agreement']:.2%}",
        f"{report['mean_abs_difference']['quantiles']:.4f}",
        f"{report['decision_flips']['threshold']:.2%}",
        "yes" if form in figures["published"] else "no",
        f"{figures['ms'][form]:.1f}",
        "" if two is None else f"{two:.1f}",
    )
    return f"| {' | '.join(cells)} |"

"""How fast the forecaster trains: precision, XLA, backend and loader, on whatever this machine has.

    python -m benchmarks.training.gpu [--json] [--write docs/training_gpu.md] [--minutes 8] [--steps 60]

Needs `pip install "keras>=3.9" numpy pydantic h5py` and `"tensorflow[and-cuda]"` or `"jax[cuda12]"`, or both; run it in
the repository. Without a GPU it runs on the CPU, where small sizes are wise (`--tiny`).

Each variant starts from the same seed, takes the same steps on the same made-up windows, and is judged on the same
windows after them. Compiling is not in the time. The baseline is float32 without XLA, fed by windows copied one by one
in Python with nothing prefetched; `speed-up` is against it. `share of peak` counts the matrix products alone
(benchmarks/training/flops.py) against the data sheet's dense figure for that precision. `noise` is the variant that
differs in nothing but its seed: a loss within that distance of the others is the same quality.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.training.flops import peak_flops, training_flops

ROOT = Path(__file__).resolve().parents[2]
FEATURES = 40
MODELS: dict[str, dict[str, Any]] = {
    "default": {"batch_size": 256},
    "large": {
        "width": 512,
        "blocks": 8,
        "heads": 8,
        "lstm_units": 512,
        "ff": 2048,
        "hidden": 256,
        "batch_size": 256,
    },
}
TINY: dict[str, dict[str, Any]] = {
    "default": {"window": 8, "width": 8, "heads": 2, "lstm_units": 8, "ff": 8, "hidden": 8, "batch_size": 16}
}


def _variant(
    name: str, precision: str, *, xla: bool, naive: bool = False, cudnn: bool = False, seed: int = 1
) -> dict:
    return {"name": name, "precision": precision, "xla": xla, "naive": naive, "cudnn": cudnn, "seed": seed}


BASELINE = _variant("float32, naive loader", "float32", xla=False, naive=True)
TENSORFLOW = [
    BASELINE,
    _variant("mixed_bfloat16, XLA", "mixed_bfloat16", xla=True),
    _variant("float32", "float32", xla=False),
    _variant("float32, XLA", "float32", xla=True),
    _variant("noise: float32, XLA, seed 2", "float32", xla=True, seed=2),
    _variant("mixed_float16, XLA", "mixed_float16", xla=True),
    _variant("mixed_bfloat16", "mixed_bfloat16", xla=False),
    _variant("mixed_float16", "mixed_float16", xla=False),
]
CUDNN = [  # the LSTM of NVIDIA's library instead of a loop; XLA cannot compile it
    _variant("float32, cuDNN LSTM", "float32", xla=False, cudnn=True),
    _variant("mixed_float16, cuDNN LSTM", "mixed_float16", xla=False, cudnn=True),
]
JAX = [
    _variant("float32, XLA, naive loader", "float32", xla=True, naive=True),
    _variant("mixed_bfloat16, XLA", "mixed_bfloat16", xla=True),
    _variant("float32, XLA", "float32", xla=True),
    _variant("mixed_float16, XLA", "mixed_float16", xla=True),
]


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Run all variants of all models on all backends that are installed, as long as there is time."""
    deadline = time.time() + 60 * given.minutes
    backends = [name for name in given.backends.split(",") if importlib.util.find_spec(name)]
    if not backends:
        raise SystemExit(f"none of {given.backends} is installed; see the top of {__file__}")
    found: dict[str, Any] = {"steps": given.steps, "tiny": given.tiny, "models": {}}
    models = TINY if given.tiny else MODELS
    for model, sizes in models.items():
        config = sizes | ({"batch_size": given.batch} if given.batch else {})
        results: list[dict[str, Any]] = []
        for backend in backends:
            for group in _groups(backend, given):
                work = {"config": config, "variants": group, "steps": given.steps, "deadline": deadline}
                if given.tiny:
                    work["bars"] = 1_000
                results += [{"backend": backend} | result for result in _in_child(backend, work, deadline)]
        found["models"][model] = {"config": config, "results": _judged(results, config)}
    return found


def _groups(backend: str, given: argparse.Namespace) -> list[list[dict[str, Any]]]:
    """Variants for each process; JAX cannot reset its peak of memory, so each gets a process there."""
    if backend == "jax":
        return [[variant] for variant in JAX[: given.variants]]
    on_gpu = Path("/dev/nvidia0").exists()
    return [[*TENSORFLOW, *(CUDNN if on_gpu else [])][: given.variants]]


def _in_child(backend: str, work: dict[str, Any], deadline: float) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.training.steps"]
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    left = max(60.0, deadline - time.time() + 60)
    try:
        done = subprocess.run(
            command, input=json.dumps(work), cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, timeout=left,
            check=False,
        )  # fmt: skip
        output = done.stdout
    except subprocess.TimeoutExpired as late:
        output = late.stdout.decode() if isinstance(late.stdout, bytes) else (late.stdout or "")
    results = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    lost = work["variants"][len(results) :]
    return results + [variant | {"failed": "the process ended or ran out of time"} for variant in lost]


def _judged(results: list[dict[str, Any]], config: dict[str, Any]) -> list[dict[str, Any]]:
    """Add the speed-up against the baseline and the share of the peak."""
    from training.config import ForecasterConfig

    flops = training_flops(ForecasterConfig(**config), FEATURES)
    baseline = next((r.get("samples_per_second") for r in results if r["name"] == BASELINE["name"]), None)
    for result in results:
        speed = result.get("samples_per_second")
        if speed is None:
            continue
        peak = peak_flops(result["device"], result["precision"])
        result["tflops"] = speed * flops / 1e12
        result["share_of_peak"] = speed * flops / peak if peak else None
        result["speed_up"] = speed / baseline if baseline else None
    return results


def table(found: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = []
    for model, content in found["models"].items():
        device = next((r["device"] for r in content["results"] if "device" in r), "nothing")
        lines += [f"### {model} model, batches of {content['config']['batch_size']}, on {device}", ""]
        lines += [
            "| backend | variant | samples/s | speed-up | step ms | share of peak | memory GB | input wait | loss |"
        ]
        lines += ["|---|---|---|---|---|---|---|---|---|"]
        lines += [_row(result) for result in content["results"]]
        lines += [""]
    return "\n".join(lines)


def _row(r: dict[str, Any]) -> str:
    if "samples_per_second" not in r:
        why = r.get("failed") or r.get("skipped")
        return f"| {r['backend']} | {r['name']} | {why} | | | | | | |"
    up = f"{r['speed_up']:.2f}x" if r["speed_up"] else ""
    share = f"{r['share_of_peak']:.1%}" if r["share_of_peak"] else ""
    memory = f"{r['peak_memory_bytes'] / 1e9:.2f}" if r["peak_memory_bytes"] else ""
    loss = "not finite" if r["loss"] is None else f"{r['loss']:.4f}"
    return (
        f"| {r['backend']} | {r['name']} | {r['samples_per_second']:,.0f} | {up} | {r['step_ms']:.2f} | {share}"
        f" | {memory} | {r['input_wait_share']:.1%} | {loss} |"
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training.gpu", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--backends", default="tensorflow,jax")
    parser.add_argument("--steps", type=int, default=60, help="timed training steps of each variant")
    parser.add_argument("--batch", type=int, help="windows in a batch, for all variants")
    parser.add_argument("--minutes", type=float, default=8.0, help="no variant begins after that")
    parser.add_argument("--variants", type=int, default=99, help="of each backend, at most")
    parser.add_argument("--tiny", action="store_true", help="a tiny model: shows that it runs, not how fast")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    parser.add_argument("--write", type=Path, help="also write the tables to this page")
    given = parser.parse_args(arguments)
    found = measure(given)
    if given.write:
        command = " ".join(
            ["python -m benchmarks.training.gpu", *(sys.argv[1:] if arguments is None else arguments)]
        )
        given.write.write_text(f"# Training on this device\n\nWritten by `{command}`.\n\n{table(found)}")
    sys.stdout.write((json.dumps(found) if given.json else table(found)) + "\n")


if __name__ == "__main__":
    main()

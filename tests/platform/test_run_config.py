"""A run config that a job cannot take: the key that is wrong, where it stands, what there is, and how to write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from assets.errors import GivenValueError
from orchestration.cli.run import require_config
from orchestration.cli.run_config import read_config, require_fitting
from orchestration.definitions import defs as platform
from orchestration.demo import _command, run_demo
from orchestration.training_definitions import defs as training

JOBS = {
    "train_and_export": training.resolve_job_def("train_and_export"),
    "ingest": platform.resolve_job_def("ingest"),
}
DOCS = Path(__file__).resolve().parents[2] / "docs"


def refused(job: str, config: str) -> GivenValueError:
    with pytest.raises(GivenValueError) as caught:
        require_fitting(job, JOBS[job], yaml.safe_load(config))
    assert "Int |" not in str(caught.value) and "{ " not in str(caught.value), "Dagster's signature"
    return caught.value


@pytest.mark.parametrize(
    ("config", "what", "where", "remedy"),
    [
        (
            "ops: {training_set: {config: {widht: 32}}}",
            "training_set takes no 'widht'",
            "ops.training_set.config in",
            "nearest first: width, window, ",
        ),
        (
            "ops: {training_set: {config: {window: wide}}}",
            "window of training_set cannot be 'wide': it takes a whole number",
            "ops.training_set.config.window in",
            "ops: {training_set: {config: {window: 64}}}",
        ),
        (
            "ops: {training_set: {config: {quantiles: 0.5}}}",
            "takes a list, each entry a number",
            "ops.training_set.config.quantiles in",
            "{quantiles: [0.1, 0.5, 0.9]}",
        ),
        (
            "ops: {training_set: {config: {volatility_feature: 3}}}",
            "takes a text, or null",
            "ops.training_set.config.volatility_feature in",
            "{volatility_feature: '...'}",
        ),
        (
            "ops: {training_set: {config: {window: 1}}}",
            "window cannot be 1: Input should be greater than or equal to 2",
            "ops.training_set.config in",
            "ops: {training_set: {config: {window: 64}}}",
        ),
        (
            "ops: {training_set: {config: {width: 10, heads: 4}}}",
            "width 10 is not a multiple of heads 4",
            "ops.training_set.config in",
            "docs/forecaster.md",
        ),
        (
            "ops: {training_set: {config: {precision: float8}}}",
            "these forecaster settings cannot be used: ",
            "ops.training_set.config in",
            "docs/forecaster.md",
        ),
        (
            "ops: {training_set: {config: {intervals: [7m]}}}",
            "interval '7m' is unknown",
            "ops.training_set.config in",
            "one of",
        ),
        (
            "ops: {judgement: {config: {baselines: [oracle]}}}",
            "there is no baseline oracle",
            "ops.judgement.config in",
            "choose among",
        ),
        ("width: 32", "a run config has no 'width'", "the top in", "begin with ops"),
        (
            "wdith: 32",
            "a run config has no 'wdith'",
            "the top in",
            "ops: {training_set: {config: {width: 32}}}",
        ),
        (
            "ops: {forecaster: {config: {width: 32}}}",
            "forecaster takes no 'width'",
            "ops.forecaster.config in",
            "write ops: {training_set: {config: {width: 32}}}",
        ),
        (
            "ops: {training_set: {width: 32}}",
            "'width' does not belong to training_set itself",
            "ops.training_set in",
            "write ops: {training_set: {config: {width: 32}}}",
        ),
        (
            "ops: {trainingset: {config: {width: 32}}}",
            "no step 'trainingset' that takes settings",
            "ops in",
            "nearest first: training_set, ",
        ),
        (
            "ops: {onnx_model: {config: {a: 1}}}",
            "onnx_model takes no settings",
            "ops.onnx_model.config",
            "leave it",
        ),
        ("ops: 3", "keys and values must stand under ops", "ops in", "write it like ops: {"),
        ("ops:", "keys and values must stand under ops", "ops in", "write it like ops: {"),
        (
            "ops: {training_set: {config: {aa: 1, bb: 2}}}",
            "(and 1 more that is wrong)",
            "ops.training_set.config in",
            "nearest first",
        ),
    ],
)
def test_what_is_wrong_is_named(config: str, what: str, where: str, remedy: str) -> None:
    error = refused("train_and_export", config)
    assert what in error.what
    assert error.where.startswith(where) and error.where.endswith("the run config of train_and_export")
    assert remedy in error.remedy, error.remedy
    assert "launchpad" not in str(error), "it was given in a file"


def test_a_step_of_another_job_is_none_of_this_one() -> None:
    error = refused("ingest", "ops: {training_set: {config: {width: 32}}}")
    assert "'training_set'" in error.what and "klines, klines_checks" in error.remedy


def test_every_example_that_is_given_can_be_used() -> None:
    for step, key in (
        ("training_set", "widht"),
        ("forecaster", "warm"),
        ("judgement", "fold"),
        ("champion", "levl"),
    ):
        remedy = refused("train_and_export", f"ops: {{{step}: {{config: {{{key}: 1}}}}}}").remedy
        require_fitting(
            "train_and_export", JOBS["train_and_export"], yaml.safe_load(remedy.partition("example ")[2])
        )


def test_the_documented_example_can_be_used() -> None:
    text = (DOCS / "forecaster.md").read_text()
    example = text.partition("## Other settings")[2].partition("```yaml")[2].partition("```")[0]
    config = yaml.safe_load(example)
    assert {"width", "epochs", "window"} <= set(config["ops"]["training_set"]["config"])
    require_fitting("train_and_export", JOBS["train_and_export"], config)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"ops: [", "no YAML: expected the node content, but found '<stream end>', line 1, column 7"),
        (b"\xff\xfe\x00", "the run config is no text"),
        (b"", "the run config holds no keys"),
        (b"- 1", "the run config holds no keys"),
        (b"a: \x00", "the run config is no YAML"),
    ],
)
def test_a_file_that_is_no_run_config(tmp_path: Path, content: bytes, what: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(content)
    with pytest.raises(GivenValueError) as caught:
        read_config(file)
    assert what in caught.value.what and caught.value.where == str(file)
    for there_is_none in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(GivenValueError, match=r"cannot be read: (No such file|Is a directory)"):
            read_config(there_is_none)


def test_a_run_config_can_be_looked_at_without_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("ops: {klines: {config: {intervals: [1h]}}}")
    assert require_config("ingest", file) == 0
    assert capsys.readouterr().out == f"{file}: fits ingest\n"
    assert require_config("ingest", None) == 0
    file.write_text("ops: {klines: {config: {intervals: [7m]}}}")
    with pytest.raises(GivenValueError, match="interval '7m' is unknown"):
        require_config("ingest", file)
    with pytest.raises(GivenValueError, match="there is no job"):
        require_config("injest", file)


def test_a_demo_takes_a_run_config_for_its_training(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLINECAST_HOME", str(home))
    assert _command("train_and_export", None)[2:] == ["orchestration.cli", "run", "train_and_export"]
    file = tmp_path / "config.yaml"
    assert _command("train_and_export", file)[-2:] == ["--config", str(file)]
    file.write_text("ops: [")
    with pytest.raises(GivenValueError, match="the run config is no YAML"):
        run_demo(retrain=False, config=file)
    assert not any(home.iterdir()), "nothing was done"


def test_keys_are_texts_whatever_yaml_makes_of_them(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("{1: [{yes: 2}]}")
    config: dict[str, Any] = read_config(file)
    assert config == {"1": [{"True": 2}]}
    with pytest.raises(GivenValueError, match="a run config has no '1'"):
        require_fitting("ingest", JOBS["ingest"], config)

"""Every stage, small, on the built-in exchange: run, run again, interrupted, restarted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
import yaml
from dagster._core.storage.tags import MAX_RETRIES_TAG, REPOSITORY_LABEL_TAG
from dagster._core.workspace.load import location_origins_from_yaml_paths

from assets.model_bundle import exported_already
from market.exchange.launch import RunningExchange, start_exchange
from market.intervals import interval_ms
from market.store import KlineStore
from orchestration.run_origin import WORKSPACE
from tests.pipeline.conftest import REPOSITORY, SMALL_TRAINING, Command

START = 1_748_736_000_000  # 2025-06-01, in the simulated market's history
CONFIG = {
    "ops": {
        "training_set": {"config": SMALL_TRAINING | {"epochs": 3}},
        "judgement": {"config": {"max_windows": 500, "baselines": ["always_flat", "base_rate", "har"]}},
        "forecaster_controls": {"config": {"least_share": 0.0}},  # so small a training finds little
    }
}


class Home:
    """One home that the tests of this module share, made stage by stage."""

    def __init__(self, folder: Path, exchange: RunningExchange) -> None:
        self.exchange = exchange
        self.klinecast = Command(folder)
        self.klinecast.settings["KLINECAST_EXCHANGE_URL"] = exchange.url
        self.folder = folder
        self.killed_in = folder
        self.config = folder.parent / "train.yaml"
        self.config.write_text(yaml.safe_dump(CONFIG))

    def klines_served(self) -> int:
        """Rows of klines that the exchange has sent since its counters were reset."""
        return int(self.exchange.info()["served"]["routes"].get("/api/v3/klines", {"rows": 0})["rows"])

    def predictions(self) -> pl.DataFrame:
        with KlineStore.open(self.folder) as store:
            return store.predictions().sort("open_time", "symbol")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("pipeline") / "home"
    folder.mkdir()
    with start_exchange(symbols=4, seed=11, now=START + 30_000, speed=0) as exchange:
        home = Home(folder, exchange)
        home.klinecast("run", "ingest")
        home.klinecast("run", "make_features")
        home.killed_in = _kill_a_training(home)
        home.klinecast("run", "train_and_export", "--config", str(home.config))
        home.klinecast("run", "prediction_sweep")
        yield home


def test_every_stage_left_what_it_is_for(made: Home) -> None:
    with KlineStore.open(made.folder) as store:
        spans = store.spans()
    assert set(spans["kline_interval"]) == {"5m", "15m"}
    assert spans["symbol"].n_unique() == 4
    version = json.loads((made.folder / "models" / "current").read_text())["version"]
    manifest = json.loads((made.folder / "models" / version / "manifest.json").read_text())
    assert {"model.onnx", "model.tflite"} <= set(manifest["files"])
    assert manifest["metrics"]["against_best"]["auc_best"] > 0.5
    rows = made.predictions()
    assert rows.height == 4
    assert rows["model_version"].unique().to_list() == [version]
    assert rows["open_time"].unique().to_list() == [START - interval_ms("5m")]
    assert (rows["p_down"] + rows["p_flat"] + rows["p_up"] - 1).abs().max() < 1e-5  # type: ignore[operator]
    assert (rows["q10"] <= rows["q50"]).all()
    assert (rows["q50"] <= rows["q90"]).all()
    assert (rows["volatility"] > 0).all()


def test_a_second_ingest_asks_for_nothing(made: Home) -> None:
    made.exchange.reset_counters()
    made.klinecast("run", "ingest")
    assert made.klines_served() == 0


def test_the_next_bar_is_one_more_row_a_symbol_and_a_sweep_again_is_none(made: Home) -> None:
    before = made.predictions()
    made.exchange.set_clock(now_ms=START + interval_ms("5m") + 1_000)
    made.exchange.reset_counters()
    made.klinecast("run", "ingest")
    assert made.klines_served() <= 2 * 4, "the new 5m bar, and the open one"
    made.klinecast("run", "prediction_sweep")
    after = made.predictions()
    made.klinecast("run", "prediction_sweep")
    assert after.height == before.height + 4
    assert after["open_time"].max() == START
    assert made.predictions().equals(after)


def test_a_sweep_loads_only_what_it_needs(made: Home) -> None:
    heavy = ("tensorflow", "keras", "sklearn", "aiohttp", "matplotlib", "pandas", "scipy")
    code = (
        "import sys; from orchestration.cli.run import run_job;"
        "assert run_job('prediction_sweep').success;"
        f"print('loaded:', [name for name in {heavy!r} if name in sys.modules])"
    )
    assert "loaded: []" in made.klinecast.python("-c", code).stdout


def test_the_pages_of_the_jobs_show_the_runs_of_the_command_line(made: Home) -> None:
    """The UI asks for a job's runs by this tag, and places them on its timeline by their origin."""
    of_workspace = {
        origin.location_name: origin for origin in location_origins_from_yaml_paths([str(WORKSPACE)])
    }
    jobs = {"ingest": "platform", "prediction_sweep": "platform", "train_and_export": "training"}
    with dg.DagsterInstance.from_config(str(made.folder / "dagster")) as instance:
        for job, location in jobs.items():
            tags = {REPOSITORY_LABEL_TAG: f"__repository__@{location}"}
            runs = instance.get_runs(dg.RunsFilter(job_name=job, tags=tags))
            assert runs and len(runs) == len(instance.get_runs(dg.RunsFilter(job_name=job)))
            for run in runs:
                assert run.remote_job_origin is not None
                origin = run.remote_job_origin.repository_origin.code_location_origin
                assert origin == of_workspace[location]
                assert run.tags[MAX_RETRIES_TAG] == "0", "a command is not repeated by the daemon"


def test_dagster_and_dg_materialise_klines_on_the_same_records(made: Home) -> None:
    told = made.klinecast("env").stdout
    folder = told.split("DAGSTER_HOME=")[1].split(" ")[0]
    scripts = Path(sys.executable).parent
    for command in (
        [str(scripts / "dg"), "launch", "--assets", "klines"],
        [
            str(scripts / "dagster"),
            "asset",
            "materialize",
            "-m",
            "orchestration.definitions",
            "--select",
            "klines",
        ],
    ):
        answer = subprocess.run(
            command,
            env=made.klinecast.environment() | {"DAGSTER_HOME": folder},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert "RUN_SUCCESS" in answer.stdout + answer.stderr


def test_a_corrupt_model_is_refused_by_name(made: Home, told_plainly: Callable[..., str]) -> None:
    version = json.loads((made.folder / "models" / "current").read_text())["version"]
    file = made.folder / "models" / version / "model.onnx"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        said = told_plainly(made.klinecast("run", "prediction_sweep", code=1))
        assert "model.onnx" in said
        status = made.klinecast("status", "--check", code=1)
        assert "not_ready" in made.klinecast("status").stdout
        assert "not_ready" in status.stdout
    finally:
        file.write_bytes(whole)
    made.klinecast("run", "prediction_sweep")


def test_what_was_exported_is_there_already_unless_it_is_damaged(made: Home) -> None:
    (forecaster,) = (made.folder / "training" / "forecasters").iterdir()
    kept = exported_already(made.folder, forecaster, ("model.onnx", "model.int8.onnx"))
    assert kept is not None and kept[0].parent == made.folder / "models"
    assert {file.name for file in kept[1].files} <= set(kept[1].reports) == {"model.onnx", "model.int8.onnx"}
    assert exported_already(made.folder, forecaster, ("model.onnx", "model.new")) is None
    file = kept[0] / "model.onnx"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        assert exported_already(made.folder, forecaster, ("model.onnx",)) is None
    finally:
        file.write_bytes(whole)


def test_the_champion_has_a_card_a_decision_and_a_place_in_the_ledger(made: Home) -> None:
    version = json.loads((made.folder / "models" / "current").read_text())["version"]
    bundle = made.folder / "models" / version
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    assert {"model_card.md", "forecaster.json", "forecaster.weights.h5"} <= set(files)
    card = (bundle / "model_card.md").read_text()
    assert "## Judgement" in card
    assert "turned off by least_share 0" in card.partition("## Controls")[2]
    decision = json.loads((made.folder / "models" / "decisions.jsonl").read_text())
    assert (decision["challenger"], decision["reason"]) == (version, "no_champion")
    assert "turned off by least_share 0" in decision["words"]
    assert abs(decision["at"] - START) < interval_ms("1h"), "the exchange's clock"
    trials = [
        json.loads(line) for line in (made.folder / "training" / "trials.jsonl").read_text().splitlines()
    ]
    assert [trial["state"] for trial in trials] == ["begun", "begun", "complete"], "killed, and begun again"
    assert len({trial["trial"] for trial in trials}) == 1


def test_status_predictions_sql_and_settings_tell(made: Home) -> None:
    assert "BTCUSDT" in made.klinecast("predictions").stdout
    assert "not a table" not in made.klinecast("sql", "SELECT count(*) AS bars FROM klines").stdout
    status = made.klinecast("status", code=None).stdout
    assert "the simulated market with seed 11" in status
    version = json.loads((made.folder / "models" / "current").read_text())["version"]
    assert f"model     {version}, model." in status
    assert str(made.folder)[:20] in made.klinecast("settings").stdout
    bad = made.klinecast("sql", "SELEC", code=2)
    assert "Traceback" not in bad.stderr
    assert "do: " in bad.stderr


def test_a_training_that_was_killed_went_on(made: Home) -> None:
    """The fixture killed the training with signal 9 after its first checkpoint, and ran it again."""
    assert made.killed_in.is_dir()
    assert (made.killed_in / "forecaster.json").is_file(), "the second run finished what the first began"
    assert [made.killed_in] == list((made.folder / "training" / "forecasters").iterdir()), (
        "and began nothing new"
    )


def _kill_a_training(home: Home) -> Path:
    """Begin a training and kill it, with all its children, once it has something to go on from."""
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestration.cli", "run", "train_and_export", "--config", str(home.config)],
        env=home.klinecast.environment(),
        cwd=REPOSITORY,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    forecasters, begun = home.folder / "training" / "forecasters", None
    deadline = time.monotonic() + 120
    while begun is None and time.monotonic() < deadline and process.poll() is None:
        begun = next(
            (file.relative_to(forecasters).parts[0] for file in forecasters.rglob("checkpoint.npz")), None
        )
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert begun is not None, "no checkpoint was written"
    assert not (forecasters / begun / "forecaster.json").exists(), "the training ended before it was killed"
    return forecasters / begun

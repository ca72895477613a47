"""What every command has in common: quick to start, choices checked before any work, and told in plain words."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer

from assets.archives import archive_summary
from assets.clock import record_clock
from assets.exchange_questions import chosen_symbols, exchange_time
from assets.klines import _metadata, _readable
from assets.source import claim_source
from assets.state_files import write_json
from market.archives.report import FileTally, TransferReport
from market.backfill import BackfillReport
from market.errors import MarketError
from market.exchange.launch import RunningExchange, start_exchange
from market.ingest_report import IngestReport, SeriesFailure, SeriesTally
from market.klines import MEANINGS
from market.store import GAP_SCHEMA, PREDICTION_SCHEMA, SPANS_SCHEMA, KlineStore
from orchestration.cli import run as running
from orchestration.cli.exit_codes import FAILED, PARTLY, WRONG
from orchestration.cli.main import app, main
from tests.quality.test_consistency import simulated

REPOSITORY = Path(__file__).resolve().parents[2]
SLOW = {"dagster", "redis", "onnxruntime", "tensorflow", "matplotlib", "numba", "aiohttp", "ccxt"}
"""What takes a second or more to load, or leads to what does."""


def test_commands_that_look_load_nothing_that_takes_long() -> None:
    quick = ("status", "gaps", "sql", "predictions", "settings", "remove", "backfill", "run", "main")
    modules = ", ".join(f"orchestration.cli.{name}" for name in quick)
    found = f"print(sorted({SLOW!r} & {{name.partition('.')[0] for name in sys.modules}}))"
    answer = subprocess.run(
        [sys.executable, "-c", f"import sys, {modules}; {found}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "[]\n"


def test_a_job_says_what_it_does_before_it_loads_dagster(
    klinecast, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class LoadedError(Exception):
        pass

    def load(*_: object) -> None:
        raise LoadedError

    monkeypatch.setattr(running, "run_job", load)
    with pytest.raises(LoadedError):
        running.run_and_report("ingest")
    said = capsys.readouterr().err
    assert said.startswith(f"ingest: state in {klinecast.home} from the built-in exchange; loading")


@pytest.mark.parametrize(
    ("options", "says", "where"),
    [
        (("--start", "2099-01-01"), "2099-01-01 00:00:00 UTC is in the future", "--start"),
        (
            ("--start", "2025-01-01", "--intervals", "1m,1M"),
            "interval '1M' is a calendar month",
            "--intervals",
        ),
        (("--start", "2025-01-01", "--interval", "7m"), "interval '7m' is unknown", "--intervals"),
        (("--start", "2025-01-01", "--symbols", " , "), "names nothing", "--symbols"),
        (("--start", "2025-01-01", "--symbol", "BTC\udcff"), r"'BTC\udcff' is no symbol", "--symbols"),
        (("--start", "2025-01-01", "--symbols", "BTC USDT"), "'BTC USDT' is no symbol", "--symbols"),
        (("--start", "2025-01-01", "--symbols", "BTCUSDT,ethusdt"), "did you mean ETHUSDT?", "--symbols"),
        (
            ("--start", "2025-01-01", "--symbols", "top:0"),
            "leave --symbols out for all; all and top:N",
            "--symbols",
        ),
        (("--start", "2025-01-01", "--symbols", "all"), "'all' is no symbol", "--symbols"),
        (("--start", "2025-01-01", "--symbols", "BTC/USDT"), "did you mean BTCUSDT?", "--symbols"),
        (("--start", "2025-01-01", "--symbols", "--"), "'--' is not how symbols are written", "--symbols"),
        (("--start", "2025-01-01", "--interval", "1H"), "did you mean 1h?", "--intervals"),
        (("--start", "2025-01-01", "--interval", "5m,60m"), "did you mean 1h?", "--intervals"),
        (("--start", "2025-01-01", "--interval", "1min"), "did you mean 1m?", "--intervals"),
        (("--start", "2025-02-01", "--end", "2025-01-01"), "there is no time between", "--start and --end"),
    ],
)
def test_a_backfill_that_cannot_be_is_refused_before_any_work(
    klinecast,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    says: str,
    where: str,
) -> None:
    monkeypatch.setattr("orchestration.cli.backfill.run_and_report", lambda *_: pytest.fail("it has begun"))
    monkeypatch.setattr(sys, "argv", ["klinecast", "backfill", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == WRONG
    assert says in said and f"where: {where}\n" in said, said
    assert not any(klinecast.home.iterdir())


def test_a_start_that_the_exchange_s_clock_has_not_reached_is_refused(klinecast) -> None:
    with start_exchange(symbols=2, seed=3, now="2025-06-10", speed=0) as exchange:
        klinecast.set(EXCHANGE_URL=exchange.url, SYMBOLS="BTCUSDT", INTERVALS="1h")
        answer = klinecast("backfill", "--start", "2025-06-10T01:00")
    assert answer.code == WRONG
    assert "loading Dagster" not in answer.error, "the built-in exchange says what its clock is"
    assert "2025-06-10 01:00:00 UTC is in the future: it is 2025-06-10 00:00:00 UTC" in answer.error
    assert "--start" in answer.error and "Traceback" not in answer.error


@pytest.mark.parametrize("command", ["gaps", "predictions", "remove"])
def test_symbols_are_chosen_the_same_way_everywhere(klinecast, command: str) -> None:
    with KlineStore.open(klinecast.home) as store:
        store.write("1m", simulated()[0])
    more = ("--interval", "1m", "--yes") if command == "remove" else ()
    for option, symbol in (("--symbols", "S0"), ("--symbol", "S1")):
        assert klinecast(command, option, symbol, *more).code == 0
        odd = klinecast(command, option, "S0,\udcff", *more)
        assert odd.code == WRONG and r"'\udcff' is no symbol" in odd.error and "where: --symbols" in odd.error
    for written, meant in (("s0", "S0"), ("S-1", "S1"), ("btc/usdt", "BTCUSDT")):
        odd = klinecast(command, "--symbols", f"S0,{written}", *more)
        assert odd.code == WRONG and f"did you mean {meant}? Symbols are written in capitals" in odd.error
    if command == "predictions":
        return
    minutely = klinecast(command, "--interval", "1min", *more[2:])
    assert minutely.code == WRONG and "'1min' is unknown" in minutely.error and "mean 1m?" in minutely.error
    reversed_span = klinecast("remove", "--interval", "1m", "--start", "2000", "--end", "1000", "--yes")
    assert reversed_span.code == WRONG and "there is no time between 2000 and 1000" in reversed_span.error


@pytest.mark.parametrize("command", ["gaps", "predictions"])
def test_unknown_names_are_told_and_the_known_ones_shown(klinecast, command: str) -> None:
    bars = simulated()[0]
    renamed = pl.col("symbol").replace({"S0": "BTCUSDT", "S1": "ETHUSDT"})
    with KlineStore.open(klinecast.home) as store:
        store.write("1m", bars.with_columns(renamed))
        gap = ("BTCUSDT", 7_200_000, 7_800_000, "outage", 1)
        store.record_gaps("1m", pl.DataFrame([gap], schema=GAP_SCHEMA, orient="row"))
        store.write_predictions(prediction("BTCUSDT"))
    answer = klinecast(command, "--symbols", "BTCUSDT,ETHUSD")
    assert answer.code == PARTLY
    assert "BTCUSDT" in answer.out and "ETHUSD" not in answer.out.replace("ETHUSDT", "")
    assert answer.error == (
        "klinecast: nothing is stored here of 1 symbol: ETHUSD\n  where: --symbols\n  do: did you mean ETHUSDT?\n"
    )
    several = klinecast(command, "--symbols", "BTCUSDT,ETHUSD,NOSUCH")
    assert "2 symbols: ETHUSD, NOSUCH" in several.error
    assert "ETHUSD: did you mean ETHUSDT?; the symbols here are BTCUSDT, ETHUSDT, S2" in several.error
    nothing = klinecast(command, "--symbols", "ETHUSD")
    assert (nothing.code, nothing.out) == (WRONG, "") and "did you mean ETHUSDT?" in nothing.error
    known = klinecast(command, "--symbols", "BTCUSDT,S2")
    assert (known.code, known.error) == (0, "")
    if command == "predictions":
        assert "no predictions of S2 yet" in known.out
    else:
        interval = klinecast(command, "--intervals", "1m,4h")
        assert interval.code == PARTLY and "1 interval: 4h" in interval.error and "BTCUSDT" in interval.out
        assert "the intervals here are 1m" in interval.error


def test_what_has_to_be_done_before_there_are_predictions(klinecast) -> None:
    with KlineStore.open(klinecast.home) as store:
        store.write("1m", simulated()[0])
    told = klinecast("predictions").out
    assert "no model to make them with" in told
    assert told.index("make_features") < told.index("train_and_export") < told.index("prediction_sweep")
    write_json(klinecast.home / "models" / "current", {"version": "v1"})
    told = klinecast("predictions").out
    assert "train" not in told and "klinecast run prediction_sweep makes those" in told


def test_predictions_that_are_not_shown_are_counted(klinecast) -> None:
    with KlineStore.open(klinecast.home) as store:
        store.write_predictions(pl.concat([prediction(symbol) for symbol in ("A", "B", "C")]))
    assert (
        "the 2 newest of 3 predictions; see more with --limit" in klinecast("predictions", "--limit", "2").out
    )
    assert "--limit" not in klinecast("predictions", "--limit", "3").out


def prediction(symbol: str) -> pl.DataFrame:
    row = (symbol, "1m", 0, 6, 0.3, 0.4, 0.3, -0.1, 0.0, 0.1, "a model", 1, 0.2)
    return pl.DataFrame([row], schema=PREDICTION_SCHEMA, orient="row")


def test_symbols_of_another_exchange_are_written_as_ccxt_does(klinecast) -> None:
    claim_source(klinecast.home, "ccxt:kraken")
    with KlineStore.open(klinecast.home) as store:
        store.write("1m", simulated()[0].with_columns(symbol=pl.col("symbol").replace({"S0": "XBT/USD"})))
    assert klinecast("gaps", "--symbols", "XBT/USD").code == 0
    assert (
        "nothing is stored here of 1 symbol: kPEPE/USD" in klinecast("gaps", "--symbols", "kPEPE/USD").error
    )
    for written, meant in (("xbt-usd", "XBT/USD"), ("ETHUSDT", "ETH/USDT"), ("eth_usdt", "ETH/USDT")):
        assert (
            f"did you mean {meant}? Symbols are written as ccxt"
            in klinecast("gaps", "--symbols", written).error
        )


def test_what_is_no_text_is_no_query(klinecast) -> None:
    with KlineStore.open(klinecast.home) as store:
        store.write("1m", simulated()[0])
    odd = klinecast("sql", "SELECT '\udcff'")
    assert odd.code == WRONG and "no UTF-8" in odd.error


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("run", "injest"), WRONG),
        (("run", "ingest", "--config", "none.yaml"), WRONG),
        (("run",), WRONG),
        (("no-such-command",), WRONG),
        (("gaps", "--cause", "outrage"), WRONG),
        (("gaps", "--limit", "0"), WRONG),
        (("sql", "SELEC 1"), WRONG),
        (("sql", "SELECT * FROM no_such_table"), WRONG),
        (("sql", "DELETE FROM klines"), WRONG),
        (("sql", "SELECT error('the data')"), WRONG),
        (("sql", "SELECT CAST(symbol AS INT) FROM klines"), FAILED),
        (("models", "show", "v9"), WRONG),
        (("models", "card", "v9"), WRONG),
        (("models", "use", "v9", "--yes"), WRONG),
        (("service", "postman"), WRONG),
        (("exchange", "--port", "70000"), WRONG),
        (("exchange", "--no-such-option"), WRONG),
        (("remove", "--interval", "1m"), FAILED),
        (("status", "--check"), FAILED),
    ],
)
def test_exit_codes_tell_a_wrong_command_from_one_that_failed(
    klinecast, command: tuple[str, ...], code: int
) -> None:
    with KlineStore.open(klinecast.home) as store:
        store.write("1m", simulated()[0])
    record_clock(klinecast.home, 1)
    answer = klinecast(*command)
    assert answer.code == code, answer.error
    assert "Traceback" not in answer.error


def test_an_environment_that_is_wrong_is_a_failure(klinecast) -> None:
    klinecast.set(INTERVALS="7m")
    assert klinecast("gaps").code == FAILED


def test_a_port_in_use_is_a_failure(klinecast, served: RunningExchange) -> None:
    busy = klinecast("exchange", "--port", served.url.rpartition(":")[2])
    assert busy.code == FAILED and "choose another port" in busy.error


def test_symbols_that_only_the_exchange_knows_are_named_once(klinecast) -> None:
    with start_exchange(symbols=2, seed=3, now="2025-06-10", speed=0) as exchange:
        klinecast.set(EXCHANGE_URL=exchange.url, INTERVALS="15m,1h")
        answer = klinecast("backfill", "--start", "2025-06-09", "--symbols", "BTCUSD,NOPEUSDT")
    assert answer.code == WRONG, "all of them are wrong, and nothing was done"
    said = answer.error.partition("klinecast: ")[2]
    assert said.startswith(
        "the exchange has no symbol 'BTCUSD', 'NOPEUSDT'\n  where: symbols of klines (--symbols)"
    )
    assert "BTCUSD: did you mean BTCUSDT?" in said
    assert answer.error.count("the exchange has no symbol 'NOPEUSDT'") == 1, "not once an interval"


def test_a_pipe_has_no_width(klinecast) -> None:
    with KlineStore.open(klinecast.home) as store:
        store.write("1m", simulated()[0])
    lines = klinecast("settings").out.splitlines()
    assert max(map(len, lines)) > 200
    assert sum("KLINECAST_OBJECTS_URL" in line for line in lines) == 1
    assert (
        next(line for line in lines if "KLINECAST_OBJECTS_URL" in line)
        .rstrip()
        .endswith("under `KLINECAST_HOME`.")
    )


@pytest.fixture(scope="module")
def served() -> RunningExchange:
    with start_exchange(symbols=2, seed=3, now="2025-06-10", speed=0) as exchange:
        yield exchange


@pytest.mark.parametrize("ask", [exchange_time, lambda url, say: chosen_symbols(url, "all", "spot", say)])
def test_trouble_is_told_while_a_single_question_is_asked_again(
    served: RunningExchange, monkeypatch: pytest.MonkeyPatch, ask
) -> None:
    monkeypatch.setattr("market.progress.LOOK_S", 0.01)
    served.add_fault(status=500, count=4)
    told: list[str] = []
    ask(served.url, say=told.append)
    assert told[:3] == [f"exchange answers HTTP 500, trying again ({attempt} of 6)" for attempt in (3, 4, 5)]


def test_the_series_of_an_ingest_begin_with_what_a_person_needs() -> None:
    failure = SeriesFailure("B", "1m", MarketError("no answer", where="there", remedy="try again"))
    quiet = SeriesTally("A", "1m", asked=2, received=2, inserted=2, requests=1)
    shown = _readable(IngestReport(1, [quiet, SeriesTally("B", "1m", failed=3)], [failure]).to_frame())
    assert shown["symbol"].to_list() == ["B", "A"], "what failed comes first"
    assert shown.columns[:5] == ["symbol", "kline_interval", "inserted", "gaps", "failed"]
    assert "quarantined" not in shown.columns and "weight" not in shown.columns, "nothing has one"
    assert "failure" not in _readable(IngestReport(1, [quiet]).to_frame()).columns


def test_gaps_that_are_looked_at_again_are_no_news() -> None:
    told = _metadata(_of(SeriesTally("A", "1m", gaps=3)), pl.DataFrame(schema=SPANS_SCHEMA))
    assert " 3 newly ledgered as absent, 0 refused;" in told["summary"]
    again = _metadata(_of(SeriesTally("A", "1m", still_absent=2)), pl.DataFrame(schema=SPANS_SCHEMA))
    assert " 0 newly ledgered as absent, 2 looked for again and still absent, 0 refused;" in again["summary"]
    assert (again["gaps"], again["still_absent"]) == (0, 2)
    described = again["dagster/column_schema"].columns
    assert {column.name: column.description for column in described} == MEANINGS


def _of(tally: SeriesTally) -> BackfillReport:
    return BackfillReport(IngestReport(1, [tally]), TransferReport(), 1.0)


def test_archive_files_that_brought_nothing_are_told_as_such() -> None:
    files = TransferReport([FileTally("a.zip", "A", "1m", outcome="stored")])
    assert archive_summary(files) == " (nothing new in 1 archive file that may fill gaps)"
    files.files.append(FileTally("b.zip", "A", "1m", outcome="stored", inserted=1_440))
    assert archive_summary(files) == " (1,440 from 2 archive files)"


def test_the_newest_bars_of_series_are_not_called_bars(klinecast, monkeypatch: pytest.MonkeyPatch) -> None:
    from assets.klines_checks import _Findings

    findings = _Findings()
    findings.add("fresh", "1m", 3, 1, "A ends")
    findings.add("in_order", "1m", 300, 0)
    import dagster as dg

    table = findings.result("fresh", dg.AssetCheckSeverity.WARN).metadata["by_interval"].value
    assert table.splitlines()[0] == "| interval | series | wrong | threshold | first |"
    assert "| bars |" in findings.result("in_order", dg.AssetCheckSeverity.WARN).metadata["by_interval"].value


def _commands(group: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, *names, name)
        else:
            yield (*names, name), command


def test_every_default_is_in_the_help(klinecast) -> None:
    optional = {
        names: [
            option.name
            for option in command.params
            if option.param_type_name == "option" and not option.required and not option.is_flag
        ]
        for names, command in _commands(typer.main.get_command(app))
    }
    assert {names[0] for names, options in optional.items() if options} >= {"gaps", "run", "backfill"}
    for names, options in optional.items():
        assert klinecast(*names, "--help").out.count("default:") >= len(options), (names, options)


def test_the_version_is_that_of_the_package(klinecast) -> None:
    assert klinecast("--version").out == f"klinecast {version('klinecast')}\n"

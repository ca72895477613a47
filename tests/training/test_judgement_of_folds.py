"""The whole judgement on a small market: what it finds, what it writes, and that it goes on where it was stopped."""

from __future__ import annotations

import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from training.data.dataset import TrainingSet, build_training_set
from training.errors import EvaluationError, TrainingSetError
from training.judgement import Judgement, JudgementSettings, in_words, judge_folds, render_html
from training.judgement.forecasts import FORECASTER
from training.judgement.words import headline

SETTINGS = JudgementSettings(
    folds=2, draws=200, baselines=("always_flat", "persistence", "base_rate", "logistic", "har", "har_log")
)


@pytest.fixture(scope="module")
def judged(planted, tmp_path_factory) -> tuple[TrainingSet, Judgement, Path, list[str]]:
    from training.config import ForecasterConfig

    config = ForecasterConfig(
        window=8, horizon=3, width=8, heads=2, blocks=1, lstm_units=8, ff=8, hidden=8, epochs=3,
        batch_size=64, learning_rate=1e-2, max_windows=1200, validation_windows=300,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("judged")
    market = planted(1200, 4, strength=0.7)
    data = build_training_set(market.block, market.close, "5m", config, folder / "set")
    begun: list[str] = []
    found = judge_folds(
        data,
        config,
        folder / "work",
        settings=SETTINGS,
        begun=lambda fold, name: begun.append(f"{fold} {name}"),
    )
    return data, found, folder / "work", begun


def test_it_finds_the_planted_signal_and_says_so(judged) -> None:
    _, found, _, _ = judged
    auc = found.scores[FORECASTER]["auc_sign"]
    assert auc.low > 0.5
    words = "\n".join(in_words(found))
    assert "better than chance" in words and "look for a leak" in words
    verdicts = {(d.baseline, d.score): d for d in found.differences}
    assert verdicts["base_rate", "auc_sign"].verdict == "better"
    assert verdicts["base_rate", "auc_sign"].folds_better == 2
    assert verdicts["har", "volatility_qlike"].verdict in words.split("Against HAR:")[1].split("\n")[0]
    assert found.scores["always_flat"]["turnover"].value == 0
    assert found.rows == sum(fold.spans["test"].rows for fold in found.folds)
    assert set(found.symbols) == set(found.symbol_names)
    assert all(f.low <= f.value <= f.high for s in found.scores.values() for n, f in s.items() if n != "ece")


def test_what_is_kept_is_not_made_again_and_gives_the_same(judged) -> None:
    data, found, work, begun = judged
    assert len(begun) == 2 * 7
    next((work / "fold-1").glob("logistic-*.npz")).write_bytes(b"cut off")
    again: list[str] = []
    scored: list[tuple[int, int]] = []
    repeated = judge_folds(
        data,
        found.config,
        work,
        settings=SETTINGS,
        begun=lambda fold, name: again.append(f"{fold} {name}"),
        scoring=lambda done, of: scored.append((done, of)),
    )
    assert again == ["1 logistic"]
    assert scored == [(n, 7 * (1 + 2 + 4)) for n in range(7 * (1 + 2 + 4))], (
        "forecasts on all, folds, symbols"
    )
    assert repeated.scores == found.scores and repeated.judgement_id == found.judgement_id
    assert Judgement.load(work) == repeated


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in ("meta", "line", "rect", "circle", "polyline", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()


def test_the_report_is_one_page_that_needs_nothing_else(judged) -> None:
    _, _, work, _ = judged
    found = Judgement.load(work)
    html = render_html(found)
    assert (work / "report.html").read_text() == html
    page = _Page()
    page.feed(html)
    assert not page.open and "script" not in page.tags and "link" not in page.tags and not page.links
    assert "svg" in page.tags and "url(" not in html
    for line in in_words(found):
        assert line.replace("&", "&amp;") in html
    assert "Transformer-LSTM" in html and "HAR of logarithms" in html
    tables = 2 + len(found.folds)  # of all folds together, of the symbols, and of each fold
    for score in ("accuracy", "coverage", "log loss", "turnover", "log volatility R²"):
        assert html.count(f"<th>{score}</th>") >= tables, score


def test_names_from_outside_are_escaped(judged) -> None:
    _, found, _, _ = judged
    bad = '<script>alert("x")</script>'
    scores = dict(found.symbols)
    scores[bad] = scores.pop(found.symbol_names[0])
    html = render_html(found.model_copy(update={"symbols": scores, "training_set_id": bad}))
    assert "<script" not in html
    assert re.search(r"&lt;script&gt;alert\(&quot;x&quot;\)&lt;/script&gt;", html)


def test_what_does_not_fit_is_refused(judged, tmp_path: Path) -> None:
    data, found, _, _ = judged
    with pytest.raises(TrainingSetError, match="built with horizon 3"):
        judge_folds(data, found.config.model_copy(update={"horizon": 4}), tmp_path, settings=SETTINGS)
    unknown = SETTINGS.model_copy(update={"baselines": ("oracle",)})
    with pytest.raises(EvaluationError, match="no baseline oracle"):
        judge_folds(data, found.config, tmp_path, settings=unknown)
    with pytest.raises(EvaluationError, match="cannot be read"):
        Judgement.load(tmp_path)


def test_a_machine_without_what_a_baseline_needs_is_judged_without_it_and_told(
    judged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, found, work, _ = judged
    (tmp_path / "lightgbm.py").write_text("raise OSError('libgomp.so.1: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lightgbm", raising=False)
    wanted = SETTINGS.model_copy(update={"baselines": (*SETTINGS.baselines, "boosting")})
    without = judge_folds(data, found.config, work, settings=wanted)
    assert without.scores == found.scores
    assert "boosting" not in without.settings.baselines
    told = [line for line in in_words(without) if line.startswith("Left out: the gradient boosting.")]
    assert "libgomp1" in told[0]


def test_a_span_of_few_blocks_is_told_and_decides_nothing(judged, tmp_path: Path) -> None:
    data, found, work, begun = judged
    kept = Path(shutil.copytree(work, tmp_path / "work"))
    again: list[str] = []
    long_blocks = SETTINGS.model_copy(update={"block_horizons": 30})
    short = judge_folds(
        data, found.config, kept, settings=long_blocks, begun=lambda fold, name: again.append(name)
    )
    assert not again and begun, "the same forecasts"
    assert short.blocks is not None and short.blocks < 10 <= (found.blocks or 0)
    assert {d.verdict for d in short.differences} == {"cannot be told"}
    figures = [f for scores in short.scores.values() for f in scores.values()]
    bins = [b for classes in short.reliability.values() for points in classes.values() for b in points]
    assert all(f.low is None and f.high is None for f in (*figures, *bins))
    for line in (*in_words(short)[:2], headline(short)):
        assert f"it holds {short.blocks} blocks of 90 bars, 10 are needed" in line
    assert "by chance alone" not in "\n".join(in_words(short))
    assert "span is too short" in render_html(short) and Judgement.load(kept) == short
    former = found.model_dump(mode="json", exclude={"blocks"})
    assert "better than chance" in "\n".join(in_words(Judgement.model_validate(former))), (
        "of a former version"
    )

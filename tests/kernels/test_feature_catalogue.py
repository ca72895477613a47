"""The catalogue, its page, and features of one's own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kernels.__main__ import main
from kernels.catalogue import (
    CATALOGUE,
    LONG_HISTORY_DAYS,
    available,
    default_features,
    load_features,
    model_features,
    spec,
)
from kernels.compute import compute
from kernels.documentation import features_page
from kernels.errors import KernelError, UnknownFeature
from kernels.registry import FAMILIES, forget
from kernels.sample import sample_panel
from kernels.series import BAR_COLUMNS

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def own_families():
    """Let a test register families, and forget them afterwards."""
    import kernels.catalogue as catalogue

    families, listed = set(FAMILIES), dict(catalogue._CATALOGUE)
    yield
    forget(set(FAMILIES) - families)
    catalogue._CATALOGUE.clear()
    catalogue._CATALOGUE.update(listed)


def test_the_features_page_is_written_from_the_catalogue():
    page = (REPOSITORY / "docs" / "features.md").read_text()
    assert page == features_page(), "run: python -m kernels docs > docs/features.md"
    for name in default_features():
        assert f"| `{name}` |" in page


def test_what_the_issue_asks_for_is_there():
    stems = {re.sub(r"(_[\d.]+)+$", "", name) for name in CATALOGUE}
    wanted = """price_change volume_change log_return sma ema wma dema tema kama rsi stoch_rsi stoch_k stoch_d
        williams_r cci macd macd_signal macd_hist adx plus_di minus_di aroon_up aroon_down atr natr bollinger_position
        bollinger_width keltner_position donchian_position supertrend sar roc momentum trix ppo ultosc obv ad adosc cmf
        mfi vwap vwap_distance ma_ratio realised_vol parkinson_vol garman_klass_vol skew kurtosis variance_ratio
        taker_imbalance average_trade_size hour_sin hour_cos day_sin day_cos"""
    assert set(wanted.split()) <= stems


def test_specs():
    rsi = spec("rsi_21")
    assert rsi.parameters == {"n": 21}
    assert (rsi.inputs, rsi.warmup, rsi.value_range) == (("close",), 21, (0.0, 100.0))
    assert spec("hour_sin").inputs == ("open_time",)
    assert spec("bollinger_width_20_2.5").parameters == {"n": 20, "k": 2.5}
    assert all(described.name == name for name, described in CATALOGUE.items())
    for described in CATALOGUE.values():
        assert described.formula and described.source and described.summary


def test_model_features_are_free_of_scale():
    names = model_features()
    assert 20 <= len(names) <= 40
    assert all(CATALOGUE[name].scale_free for name in names)
    assert {"taker_imbalance", "realised_vol_30"} <= set(names)


def test_of_a_short_history_the_forecaster_sees_one_wave_a_day():
    day = 86_400_000
    times = np.arange(0, LONG_HISTORY_DAYS * day + 1, day)
    assert model_features(times) == model_features()
    few = set(model_features(times[:-1]))
    assert few == {
        name for name in model_features() if name[-2:] not in ("_2", "_3", "_4") or "hour" not in name
    }
    assert {"hour_sin", "hour_cos"} <= few and model_features(times[:0]) == model_features(times[:2])


def test_harmonics_of_the_day_and_logarithms_of_volatility():
    panel = sample_panel(300, 3, seed=5)
    values = dict(zip(default_features(), compute(panel).values, strict=True))
    known = slice(CATALOGUE["log_realised_vol_30"].warmup, None)
    np.testing.assert_allclose(
        values["log_realised_vol_30"][known], np.log(values["realised_vol_30"][known]), rtol=1e-5
    )
    spread = np.log(panel.columns["high"] / panel.columns["low"]) ** 2 / (4 * np.log(2))
    for n in (1, 6, 50):
        mean = np.lib.stride_tricks.sliding_window_view(spread, n, axis=0).mean(axis=-1)
        expected = np.log(np.maximum(np.sqrt(mean), 1e-6))
        np.testing.assert_allclose(values[f"log_parkinson_vol_{n}"][n - 1 :], expected, rtol=1e-5)
    turn = 2 * np.pi * (panel.open_time % 86_400_000) / 86_400_000
    for k in (2, 3, 4):
        for part, function in (("sin", np.sin), ("cos", np.cos)):
            expected = np.broadcast_to(function(k * turn)[:, None], panel.columns["close"].shape)
            np.testing.assert_allclose(values[f"hour_{part}_{k}"], expected, atol=1e-6)
    for column in ("open", "high", "low", "close"):
        panel.columns[column][...] = 7.0
    still = compute(panel).values[default_features().index("log_parkinson_vol_6")][5:]
    np.testing.assert_allclose(still, np.log(1e-6), rtol=1e-6, err_msg="no move has no logarithm")


def test_features_fall_away_with_their_columns(monkeypatch):
    kept = available(model_features(), BAR_COLUMNS)
    assert set(model_features()) - set(kept) == {"taker_imbalance", "trade_size_ratio_20"}
    panel = sample_panel(80, 3)
    del panel.columns["trades"], panel.columns["taker_buy_base"]
    monkeypatch.setattr(
        "kernels.compute.default_features", lambda: ("ema_9", "taker_imbalance", "average_trade_size")
    )
    assert compute(panel).names == ("ema_9",)


OWN = '''
from kernels.registry import feature
from kernels.rolling import rolling_mean
from kernels.series import Bar, Series, ratio
from kernels.smoothing import ema


@feature(
    "body_share_{n}",
    text="EMA(C - O, n) over the mean range of n bars",
    source="own",
    scale_free=True,
    instances=((10,),),
)
def body_share(bar: Bar, n: int) -> Series:
    """Net body of recent bars as a share of their range."""
    return ratio(ema(bar.close - bar.open, n), rolling_mean(bar.high - bar.low, n))
'''


def test_a_feature_of_ones_own(own_families, tmp_path, capsys):
    file = tmp_path / "own.py"
    file.write_text(OWN)
    assert main(["check", str(file)]) == 0
    assert capsys.readouterr().out == "1 features, 10 checks: all equal\n"
    assert spec("body_share_10").warmup == 9
    assert "| `body_share_10` | Net body of recent bars" in features_page()
    panel = sample_panel(60, 4)
    c = panel.columns
    values = compute(panel, ("body_share_5",)).values[0]
    body, span = c["close"] - c["open"], c["high"] - c["low"]
    level = body[:5].mean(axis=0)
    for t in range(5, 60):
        level = level + (body[t] - level) * 2 / 6
        assert np.allclose(values[t], level / span[t - 4 : t + 1].mean(axis=0), rtol=1e-5)


def test_the_documented_feature_works(own_families, tmp_path):
    page = (REPOSITORY / "docs" / "own-features.md").read_text()
    source = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert source
    file = tmp_path / "documented.py"
    file.write_text(source.group(1))
    assert main(["check", str(file)]) == 0


def test_a_name_is_given_once(own_families, tmp_path):
    file = tmp_path / "second_rsi.py"
    file.write_text(OWN.replace("body_share_{n}", "rsi_{n}"))
    with pytest.raises(KernelError, match="already"):
        load_features(file)
    assert spec("rsi_14").inputs == ("close",)
    fixed = tmp_path / "one_sma.py"  # another family has that name: it would never be asked
    fixed.write_text(
        OWN.replace("body_share_{n}", "sma_20").replace(", n: int", "").replace("((10,),)", "((),)")
    )
    with pytest.raises(KernelError, match=re.escape("those of 'sma_{n}'")):
        load_features(fixed)


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [("n: int", "n", "not annotated"), ("n: int", "m: int", "has parameters"),
     ("share_{n}", "share@{n}", "cannot be used"),
     ("((10,),)", "(10,)", "no tuple of 1"), ("((10,),)", "((1.5,),)", "no name can be made"),
     ("((10,),)", "((10, 20),)", "no tuple of 1"), ("@feature(", "(lambda *_, **__: lambda f: f)(", "defines none")],
)  # fmt: skip
def test_features_that_do_not_fit_their_name(own_families, tmp_path, right, wrong, told):
    file = tmp_path / "own.py"
    assert right in OWN
    file.write_text(OWN.replace(right, wrong))
    with pytest.raises(KernelError, match=told) as caught:
        load_features(file)
    assert str(file) in caught.value.where


def test_a_file_that_fails_leaves_nothing_and_can_be_loaded_when_mended(own_families, tmp_path):
    file = tmp_path / "own.py"
    file.write_text(OWN + "\n1 / 0\n")
    with pytest.raises(KernelError, match="ZeroDivisionError") as caught:
        load_features(file)
    assert caught.value.where == f"{file}:{len(OWN.splitlines()) + 2}"
    file.write_text(OWN)
    assert load_features(file) == ("body_share_10",) == load_features(file)


def test_a_broken_file_named_in_the_environment_is_told(tmp_path):
    told = subprocess.run(
        [sys.executable, "-m", "kernels", "docs"],
        env={**os.environ, "KLINECAST_FEATURE_FILES": str(tmp_path / "none.py")},
        cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.startswith("no such file of features\n")


def test_a_wrong_claim_is_found(own_families, tmp_path, capsys):
    file = tmp_path / "wrong.py"
    claim = OWN.replace("scale_free=True,", "scale_free=True,\n    value_range=(0.0, 0.1),").replace(
        "body_share", "claim"
    )
    claim = claim.replace("ratio(ema", "bar.close * ratio(ema")
    more = (
        f"@feature('{name}', text='', source='')\ndef {name}(bar):\n    return {formula}\n"
        for name, formula in (
            ("of_nothing", "log(bar.volume)"),
            ("of_flat", "bar.volume / (bar.high - bar.low)"),
        )
    )
    file.write_text("\n".join([claim, "from kernels.series import log", *more]))
    assert main(["check", str(file)]) == 1
    told = capsys.readouterr().out
    for name in ("of_nothing", "of_flat"):
        assert f"FAILED finite: {name} is nan where all its inputs are there" in told
    assert "FAILED range: claim_10" in told
    assert "FAILED scale: claim_10" in told


def test_files_that_do_not_load(own_families, tmp_path):
    with pytest.raises(KernelError, match="no such file"):
        load_features(tmp_path / "nothing.py")
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_this_name")
    with pytest.raises(KernelError, match="ModuleNotFoundError"):
        load_features(broken)


MISTAKES = [
    ("bar.close if bar.close > bar.open else bar.open", "no single truth value"),
    ("bar.nothing", "no column"),
    ("recursive(lambda _s, old: previous(old) + bar.close)[0]", "second state"),
    ("recursive(lambda _s, old: (old, bar.close))[0]", "one Series for each state"),
    ("recursive(lambda _s, old: old + 1.0)[0]", "reads no column"),
    ("recursive(lambda _s, old: old + bar.close, warmup=0)[0]", "warm-up of 0 bars"),
    ("previous(bar.close, -1)", "of -1 bars"),  # the future
    ("previous(bar.close, 5 / 2)", "of 2.5 bars"),
    ("rolling_sum(bar.close, 0)", "of 0 bars"),
    ("rolling_moments(bar.close, -3).m2", "of -3 bars"),
    ("weighted_mean(bar.close, 0)", "of 0 bars"),
    ("highest(bar.close, 0)", "of 0 bars"),
    ("lowest(bar.close, -2)", "of -2 bars"),
    ("bars_since_highest(bar.close, 0)", "of 0 bars"),
    ("ema(bar.close, 0)", "of 0 bars"),
    ("wilder(bar.close, 0)", "of 0 bars"),
    ("wilder_sum(bar.close, 2.0)", "of 2.0 bars"),
    ("where(bar.close == bar.open, 1.0, 0.0)", "== or !="),
    ("where(bar.close, 1.0, 0.0)", "no condition"),
    ("where(True, bar.close, 0.0)", "no condition"),
    ("bar.close * (bar.close > bar.open)", "no number"),
    ("bar.close * True", "neither a Series nor a number"),
    ("where(bar.close > 1.0, bar.close, float('nan'))", "nan in a formula"),
    ("bar.close > bar.open", "gives a condition"),
    ("(bar.close, bar.open)", "gives a tuple"),
    ("abs(bar.close)", "TypeError: bad operand"),
]


@pytest.mark.parametrize(("formula", "told"), MISTAKES)
def test_formulas_that_cannot_be_traced(own_families, tmp_path, formula, told):
    file = tmp_path / f"bad_{abs(hash(formula))}.py"
    file.write_text(
        "from kernels.registry import feature\n"
        "from kernels.rolling import *\nfrom kernels.series import *\nfrom kernels.smoothing import *\n"
        f"@feature('bad_one', text='', source='')\ndef bad_one(bar):\n    return {formula}\n"
    )
    with pytest.raises(KernelError, match=re.escape(told)) as caught:
        load_features(file)
    assert f"{file}:{5 if 'gives a' in told else 7}" in caught.value.where  # the formula, or the line in it
    assert "bad_one" in str(caught.value)
    with pytest.raises(UnknownFeature):
        spec("bad_one")

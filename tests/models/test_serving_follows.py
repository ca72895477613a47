"""A change of the champion reaches predictions at the next sweep, in a process that has the former one loaded."""

from __future__ import annotations

from market.store import KlineStore
from serving.sweep import sweep
from tests.serving.conftest import FEATURES, INTERVAL, STEP, SYMBOLS, bars, small_model
from training.lifecycle.registry import use_model

__all__ = ["bars"]


def test_the_next_sweep_predicts_with_the_version_that_was_chosen(home, bars, publish_model) -> None:
    last = int(bars["open_time"].max())
    for version, seed in (("v1", 1), ("v2", 2)):
        publish_model(home, version, 0.0, seen=100, window=16, names=FEATURES, model=small_model(seed))
    with KlineStore.open(home) as store:
        store.write(INTERVAL, bars)
        use_model(home, "v1", at=1, by="me")
        report = None
        found = []
        for version in ("v1", "v2", "v1"):
            use_model(home, version, at=2, by="me")
            report = sweep(store, home, symbols=SYMBOLS, now_ms=last + STEP, previous=report)
            assert report.model_version == version
            found.append(report.frame["p_up"].to_list())
        stored = store.predictions(INTERVAL)
    assert found[0] != found[1], "the two say different things"
    assert found[0] == found[2], "going back is going back, to the bit"
    assert stored.height == 2 * len(SYMBOLS), "what was predicted with each of them stays"

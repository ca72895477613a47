"""How soon labelled pumps are flagged, and at what price in false alarms.

    python -m benchmarks.anomalies --data FOLDER [--json]

FOLDER holds `klines/pump_events_2020` and `pumps/events_2020.csv`: 18 pump and dump events of 2020 with the
minute of their announcement, each with about four days of one-minute bars of its symbol. The symbols are laid
side by side by minutes since the first bar of their file (detectors look at one symbol at a time: the shift
changes nothing but shares the past), the first 36 hours are the past, and the announcement follows around
hour 48. At most 17 events can be found: around the announcement of the NEBL event there is a single trade.

An event is found if a bar is flagged from one minute before the announced minute (some start early) to
`--within` minutes after it. Every flag that is further than `EXEMPT` minutes from the announcement is a false
alarm, whatever moved the market then.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import polars as pl

from market.store import Panel
from training.anomalies import AnomalyConfig, AnomalyFlags, detect_anomalies

MINUTE = 60_000
START = 1_577_836_800_000  # where the shifted files begin: any moment on the grid
PAST_HOURS = 36
EXEMPT = 120
EARLY = 1
COLUMNS = ("open", "high", "low", "close", "volume", "trades", "taker_buy_base")


def load_events(data: Path) -> tuple[Panel, np.ndarray]:
    """Return the shifted panel and the row of each symbol's announcement."""
    events = pl.read_csv(data / "pumps" / "events_2020.csv").sort("event")
    files = [
        data / "klines" / "pump_events_2020" / f"{event.replace('_', '_1m_', 1)}.parquet"
        for event in events["event"]
    ]
    frames = [pl.read_parquet(file) for file in files]
    rows = max((int(frame["open_time"][-1]) - int(frame["open_time"][0])) // MINUTE + 1 for frame in frames)
    columns = {name: np.full((rows, len(frames)), np.nan) for name in COLUMNS}
    announced = np.empty(len(frames), np.int64)
    for at, (frame, moment) in enumerate(zip(frames, events["announce_ms"], strict=True)):
        first = int(frame["open_time"][0])
        place = ((frame["open_time"] - first) // MINUTE).to_numpy()
        for name, values in columns.items():
            values[place, at] = frame[name].cast(pl.Float64).to_numpy()
        announced[at] = (moment - first) // MINUTE
    times = START + MINUTE * np.arange(rows, dtype=np.int64)
    return Panel(times, tuple(events["symbol"]), "1m", columns), announced


def judge(
    flagged: np.ndarray, announced: np.ndarray, past_rows: int, present: np.ndarray, within: int
) -> dict[str, object]:
    """Judge one detector's (T, S) flags."""
    minutes = np.arange(len(flagged))[:, None] - announced
    near = (minutes >= -EARLY) & (minutes <= within)
    far = (np.abs(minutes) > EXEMPT) & present
    far[:past_rows] = False
    found = (flagged & near).any(axis=0)
    delays = [int(minutes[:, s][flagged[:, s] & near[:, s]].min()) for s in np.flatnonzero(found)]
    days = far.sum() / 1_440
    return {
        "found": int(found.sum()),
        "events": len(announced),
        "median_delay_minutes": float(np.median(delays)) if delays else None,
        "false_alarms_per_symbol_day": round(float((flagged & far).sum() / days), 2),
        "false_alarm_episodes_per_symbol_day": round(_episodes(flagged & far) / days, 2),
    }


def evaluate(
    flags: AnomalyFlags, panel: Panel, announced: np.ndarray, within: int
) -> dict[str, dict[str, object]]:
    """Judge every detector, and all of them together."""
    past_rows = int(np.searchsorted(panel.open_time, flags.fit_until))
    present = ~np.isnan(panel.columns["close"])
    flagged = {name: score >= flags.thresholds[name] for name, score in flags.scores.items()}
    flagged["any"] = np.any(list(flagged.values()), axis=0)
    flagged["two_or_more"] = np.sum([f for name, f in flagged.items() if name != "any"], axis=0) >= 2
    return {name: judge(values, announced, past_rows, present, within) for name, values in flagged.items()}


def _episodes(flagged: np.ndarray, apart: int = 30) -> int:
    """Count flags of a symbol that come at least `apart` minutes after the one before."""
    return sum(int((np.diff(np.flatnonzero(column), prepend=-apart) >= apart).sum()) for column in flagged.T)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--within", type=int, default=5, help="minutes after the announcement")
    parser.add_argument("--alarm-rate", type=float, default=AnomalyConfig().alarm_rate)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    panel, announced = load_events(options.data)
    start = time.perf_counter()
    flags = detect_anomalies(
        panel,
        fit_until=START + PAST_HOURS * 60 * MINUTE,
        created_at=0,
        seed=options.seed,
        config=AnomalyConfig(alarm_rate=options.alarm_rate),
    )
    seconds = time.perf_counter() - start
    result = evaluate(flags, panel, announced, options.within)
    if options.json:
        told = {
            "seconds": round(seconds, 2),
            "bars": panel.open_time.size * len(panel.symbols),
            "within": options.within,
        }
        print(json.dumps(told | {"detectors": result, "thresholds": flags.thresholds}, indent=1))
        return
    print(f"{len(panel.open_time):,} minutes of {len(panel.symbols)} symbols in {seconds:.1f} s")
    for name, facts in result.items():
        print(
            f"{name:18} found {facts['found']:2}/{facts['events']},"
            f" median delay {facts['median_delay_minutes']} min,"
            f" {facts['false_alarm_episodes_per_symbol_day']} false episodes per symbol and day"
        )


if __name__ == "__main__":
    main()

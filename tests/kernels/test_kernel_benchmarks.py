"""The benchmark runs and prints what it promises; its speed is judged elsewhere, on a quiet machine."""

from __future__ import annotations

import json

from benchmarks.kernels.__main__ import main
from benchmarks.targets import say

PROMISED = {
    "talib_discarded_ratio", "talib_kept_ratio", "pandas_ratio", "ns_per_bar_20", "copy_bandwidth_share",
    "stream_us_500x31", "stream_talib_ratio", "stream_talipp_ratio", "first_result_s", "scaling_50_to_5000",
}  # fmt: skip


def test_quick_run_prints_one_object_and_writes_a_page(capsys, tmp_path):
    assert main(["--json", "--quick", "--rounds", "1", "--write", str(tmp_path / "page.md")]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert set(figures) >= PROMISED
    assert all(figures[name] > 0 for name in PROMISED)
    page = (tmp_path / "page.md").read_text()
    assert all(f"| `{name}` | {say(figures[name])} |" in page for name in PROMISED)

"""The command line: what it refuses, how it starts, how it stops."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from market.exchange.__main__ import main
from market.exchange.launch import start_exchange
from market.exchange.source import ExchangeSetupError


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--symbols", "0"], "--symbols"),
        (["--symbols", "many"], "invalid int value"),
        (["--speed", "-1"], "speed"),
        (["--now", "someday"], "not a time"),
        (["--now", "2019-01-01"], "begins at"),
        (["--port", "70000"], "--port"),
        (["--host", "0.0.0.0"], "KLINECAST_EXCHANGE_TOKEN"),
        (["--host", "example"], "not an address"),
        (["--replay", "/nowhere/at/all"], "no folder"),
        (["--replay", ".", "--seed", "3"], "--seed"),
        (["--weight-limit", "-1"], "--weight-limit"),
        (["--colour"], "unrecognized"),
    ],
)
def test_wrong_arguments_are_one_clear_message(arguments, told, capsys, monkeypatch):
    monkeypatch.delenv("KLINECAST_EXCHANGE_TOKEN", raising=False)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 3
    assert "where: " in said
    assert "do: " in said


def test_a_port_in_use_is_one_clear_message(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["--port", str(taken.getsockname()[1])]) == 1
    assert "in use" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_what_it_serves_and_stops_cleanly(number):
    command = [
        sys.executable,
        "-m",
        "market.exchange",
        "--port",
        "0",
        "--symbols",
        "1",
        "--now",
        "2025-02-01",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = [process.stdout.readline() for _ in range(3)]
    assert "simulated market, 1 symbols (seed 7" in said[0]
    assert "2025-02-01T00:00" in said[1]
    url = said[2].split("listening on ")[1].strip()
    for _ in range(100):
        try:
            urllib.request.urlopen(url + "/api/v3/ping", timeout=5).read()
            break
        except urllib.error.URLError:
            time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=15)
    assert process.returncode == 0
    assert out.endswith("stopped\n")
    assert err == ""


def test_it_ends_with_the_process_that_launched_it():
    program = (
        "import os, time\nfrom market.exchange.launch import start_exchange\n"
        "running = start_exchange(symbols=1)\nprint(running.pid, running.url, flush=True)\nos._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    pid = int(done.stdout.split()[0])
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("the exchange outlived its launcher")


def test_the_launcher_passes_the_message_on():
    with pytest.raises(ExchangeSetupError, match="0 symbols are not possible") as caught:
        start_exchange(symbols=0)
    assert caught.value.where == "--symbols"


def test_a_token_is_asked_for_where_one_is_set():
    secret = {"KLINECAST_EXCHANGE_TOKEN": "s3cret"}
    with start_exchange(symbols=1, host="0.0.0.0", environment=secret) as running:
        url = running.url.replace("0.0.0.0", "127.0.0.1")
        for path in ("/api/v3/ping", "/klinecast/v1/info"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(url + path)
            assert refused.value.code == 401
            request = urllib.request.Request(url + path, headers={"X-MBX-APIKEY": "s3cret"})
            assert urllib.request.urlopen(request).status == 200
        assert running.info()["symbols"] == ["BTCUSDT"]

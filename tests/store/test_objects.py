"""What every place for cold files must do: the same tests in a folder and in a bucket."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest

from market.errors import MarketError
from market.store import KlineStore, objects_s3
from market.store.objects import LocalFolder, ObjectStore, open_objects
from market.store.objects_s3 import S3Bucket
from tests.store.s3_server import S3Server


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What `open_objects` is given."""
    return str(tmp_path / "objects") if request.param == "folder" else request.getfixturevalue("s3_url")


@pytest.fixture
def objects(place: str) -> ObjectStore:
    return open_objects(place)


def _names(objects: ObjectStore) -> list[str]:
    return [item.name for item in objects.list()]


def test_the_place_is_chosen_by_its_url(tmp_path: Path, s3_url: str) -> None:
    assert isinstance(open_objects(tmp_path / "a" / "b"), LocalFolder)
    assert isinstance(open_objects(s3_url), S3Bucket)
    with pytest.raises(MarketError, match=r"gs://") as caught:
        open_objects("gs://bucket/prefix")
    assert "s3://bucket/prefix" in caught.value.remedy


def test_an_object_is_put_and_read_and_goes(objects: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "made.parquet"
    source.write_bytes(b"from a file")
    objects.put("1m/a.parquet", b"from memory")
    objects.put("1h/b.parquet", source)
    assert source.read_bytes() == b"from a file"
    assert objects.get("1m/a.parquet") == b"from memory"
    assert objects.get("1h/b.parquet") == b"from a file"
    assert objects.read("1m/a.parquet", 5, 8) == b"mem"
    assert objects.read("1m/a.parquet", 5, 99) == b"memory"
    assert [(item.name, item.size) for item in objects.list()] == [("1h/b.parquet", 11), ("1m/a.parquet", 11)]
    assert all(abs(item.modified_ms - time.time() * 1_000) < 60_000 for item in objects.list())
    objects.delete("1m/a.parquet")
    objects.delete("1m/a.parquet")
    assert not objects.exists("1m/a.parquet") and objects.exists("1h/b.parquet")
    assert _names(objects) == ["1h/b.parquet"]


def test_what_is_not_there_is_named(objects: ObjectStore) -> None:
    for read in (lambda: objects.get("1m/none.parquet"), lambda: objects.read("1m/none.parquet", 0, 1)):
        with pytest.raises(MarketError, match="not there") as caught:
            read()
        assert "1m/none.parquet" in caught.value.where and objects.where in caught.value.where
    assert objects.list() == []


def test_putting_the_same_object_again_makes_it_new(objects: ObjectStore) -> None:
    """So a cleaning, which goes by the age, leaves a file alone that is about to be registered again."""
    objects.put("1m/a.parquet", b"content")
    [first] = objects.list()
    time.sleep(1.1)  # servers date objects by the second
    objects.put("1m/a.parquet", b"content")
    [second] = objects.list()
    assert second.modified_ms - first.modified_ms >= 1_000
    assert objects.get("1m/a.parquet") == b"content"


def test_of_many_that_create_one_object_one_wins(objects: ObjectStore) -> None:
    barrier, won = threading.Barrier(8), []

    def create(number: int) -> None:
        barrier.wait()
        if objects.create("store.json", b"%d" % number):
            won.append(b"%d" % number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and objects.get("store.json") == won[0]
    assert not objects.create("store.json", b"late")
    assert objects.get("store.json") == won[0]
    assert _names(objects) == ["store.json"]


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../up", "1m/../../up", "1m//a", "1m/./a", "a\\b", "a/"])
def test_a_name_stays_inside_its_place(objects: ObjectStore, name: str) -> None:
    for method in (objects.get, objects.exists, objects.delete, objects.uri, objects.local_path):
        with pytest.raises(MarketError, match="no name of an object"):
            method(name)
    with pytest.raises(MarketError, match="no name of an object"):
        objects.put(name, b"content")
    with pytest.raises(MarketError, match="no name of an object"):
        objects.create(name, b"content")
    assert objects.list() == []


def test_polars_reads_through_the_uri(objects: ObjectStore, tmp_path: Path) -> None:
    frame = pl.DataFrame({"open_time": range(1_000), "close": 1.5})
    frame.write_parquet(tmp_path / "made.parquet")
    for name in ("1m/a.parquet", "1m/b.parquet"):
        objects.put(name, tmp_path / "made.parquet")
    uris = [objects.uri(name) for name in ("1m/a.parquet", "1m/b.parquet")]
    lazy = pl.scan_parquet(uris, glob=False, storage_options=objects.storage_options)
    assert lazy.filter(pl.col("open_time") >= 990).collect().height == 20
    gone = pl.scan_parquet([objects.uri("1m/c.parquet")], storage_options=objects.storage_options)
    with pytest.raises(MarketError, match="not there") as caught, objects.explained("1m/c.parquet"):
        gone.collect()
    assert "1m/c.parquet" in caught.value.where
    with pytest.raises(pl.exceptions.ColumnNotFoundError), objects.explained():
        lazy.select("volume").collect()


def test_a_large_object_is_never_seen_in_part(objects: ObjectStore, tmp_path: Path) -> None:
    content = os.urandom(1 << 20) * 40
    source = tmp_path / "large"
    source.write_bytes(content)
    seen: list[int] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.extend(item.size for item in objects.list() if not item.name.endswith(".tmp"))

    watcher = threading.Thread(target=look)
    watcher.start()
    objects.put("1m/bytes.parquet", content)
    objects.put("1m/file.parquet", source)
    done.set()
    watcher.join()
    assert set(seen) <= {len(content)}
    for name in ("1m/bytes.parquet", "1m/file.parquet"):
        assert hashlib.sha256(objects.get(name)).digest() == hashlib.sha256(content).digest()


_PUT_FOR_EVER = """
import hashlib, os, sys
from market.store.objects import open_objects
objects = open_objects(sys.argv[1])
while True:
    content = os.urandom(18 << 20)
    objects.put("1m/" + hashlib.sha256(content).hexdigest(), content)
    print("put", flush=True)
"""


def test_a_killed_put_leaves_no_part_behind(place: str, objects: ObjectStore) -> None:
    for wait in (0.02, 0.05):
        process = subprocess.Popen(
            [sys.executable, "-c", _PUT_FOR_EVER, place], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None and process.stdout.readline() == "put\n"
        time.sleep(wait)
        process.kill()
        process.communicate()
    whole = [item.name for item in objects.list() if not item.name.endswith(".tmp")]
    assert len(whole) >= 2
    assert all(hashlib.sha256(objects.get(name)).hexdigest() == name.removeprefix("1m/") for name in whole)


def test_what_a_killed_put_left_in_a_folder_is_listed(tmp_path: Path) -> None:
    objects = LocalFolder(tmp_path)
    (tmp_path / "1m").mkdir()
    (tmp_path / "1m" / ".a.parquet-1-ab.tmp").write_bytes(b"part")
    assert _names(objects) == ["1m/.a.parquet-1-ab.tmp"]


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(MarketError, match="cannot be read or written") as caught:
        LocalFolder(tmp_path / "file" / "klines")
    assert str(tmp_path / "file") in caught.value.where and "owner" in caught.value.remedy


def test_prefixes_are_apart(s3_url: str) -> None:
    one, longer = S3Bucket(s3_url), S3Bucket(s3_url + "-more")
    one.put("a", b"1")
    longer.put("b", b"2")
    assert (_names(one), _names(longer)) == (["a"], ["b"])
    assert one.uri("a") == f"{s3_url}/a"
    assert _names(S3Bucket(s3_url + "/")) == ["a"]


@pytest.mark.parametrize(
    "url", ["s3://", "s3:///a", "s3://key:secret@bucket/a", "s3://b/a?x=1", "s3://b/../a"]
)
def test_a_url_of_no_bucket_is_refused(url: str, s3_url: str) -> None:
    with pytest.raises(MarketError, match="none of a bucket") as caught:
        S3Bucket(url)
    assert "secret@" not in str(caught.value) and "AWS_ENDPOINT_URL" in caught.value.remedy


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9000", "localhost", "ftp://127.0.0.1", "https://", ""])
def test_an_endpoint_that_is_no_url_is_refused(
    s3_url: str, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(MarketError) as caught:
        S3Bucket(s3_url)
    assert caught.value.where == "AWS_ENDPOINT_URL" and "https://" in caught.value.remedy


def _faults(objects: ObjectStore) -> Iterator[MarketError]:
    for work in (
        lambda: objects.put("a", b"1"),
        lambda: objects.create("a", b"1"),
        lambda: objects.get("a"),
        lambda: objects.read("a", 0, 1),
        lambda: objects.delete("a"),
        objects.list,
    ):
        with pytest.raises(MarketError) as caught:
            work()
        assert objects.where in caught.value.where
        yield caught.value


def test_missing_credentials_are_told(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(MarketError, match="no credentials") as caught:
        S3Bucket(s3_url)
    assert "AWS_SECRET_ACCESS_KEY" in caught.value.remedy


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_are_told_and_not_shown(
    s3_url: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "wrong-wrong-wrong")
    objects = S3Bucket(s3_url)
    for fault in _faults(objects):
        assert "refuses" in fault.what and "AWS_" in fault.remedy
        text = str(fault) + repr(fault) + repr(fault.__cause__)
        assert not any(value in text for value in ("wrong-wrong", s3_server.secret, s3_server.key))
    with pytest.raises(MarketError, match="refuses"):
        objects.exists("a")


def test_a_missing_bucket_is_named(s3_url: str) -> None:
    for fault in _faults(S3Bucket("s3://other-bucket/a")):
        assert "no bucket 'other-bucket'" in fault.what and "create the bucket" in fault.remedy


def test_an_endpoint_that_does_not_answer_is_named(
    s3_url: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects_s3, "_LISTENER_PAUSES_S", ())
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:hidden@127.0.0.1:9")
    objects = S3Bucket(s3_url)
    with pytest.raises(MarketError, match="cannot be reached") as caught:
        objects.list()
    assert "at http://127.0.0.1:9" in caught.value.where and "hidden" not in str(caught.value)
    assert "AWS_ENDPOINT_URL" in caught.value.remedy


def test_a_port_where_nobody_listens_is_told_within_seconds(
    s3_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(objects_s3, "_LISTENER_PAUSES_S", (0.2, 0.2))
    started = time.monotonic()
    with pytest.raises(MarketError, match="cannot be reached: Connection refused"):
        S3Bucket(s3_url).list()
    assert time.monotonic() - started < 5, "the client itself would go on for a minute"
    assert [record.message.partition(" at ")[0] for record in caplog.records] == ["nobody answers"] * 2


def test_a_server_that_says_nothing_is_given_up_soon(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects_s3, "_SILENCE", timedelta(seconds=0.2))
    monkeypatch.setattr(objects_s3, "_REPEATED", timedelta(seconds=0.3))
    monkeypatch.setattr(objects_s3, "_LONGEST", timedelta(seconds=60))
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the system takes connections, and nobody reads
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        objects = S3Bucket(s3_url)
        tries: list[Callable[[], object]] = [
            objects.list,
            lambda: objects.exists("a"),
            lambda: objects.get("a"),
            lambda: objects.read("a", 0, 1),
            lambda: objects.delete("a"),
        ]
        for trying in tries:
            started = time.monotonic()
            with pytest.raises(MarketError, match="does not answer") as caught:
                trying()
            assert time.monotonic() - started < 30, "a request may take a minute, silence may not"
            assert "AWS_ENDPOINT_URL" in caught.value.remedy


class _WebSite(BaseHTTPRequestHandler):
    """Answers as a site does that is no S3 server: `status` and a page, whatever is asked."""

    status = 404

    def do_GET(self) -> None:
        page = b"<html>not what you are looking for</html>"
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 - the library's names

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("status", [200, 404, 405, 501])
def test_a_web_server_in_the_place_of_s3_is_told_from_a_lost_file(
    s3_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int
) -> None:
    monkeypatch.setattr(objects_s3, "_RETRIES", 0)
    monkeypatch.setattr(_WebSite, "status", status)
    with ThreadingHTTPServer(("127.0.0.1", 0), _WebSite) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{site.server_port}")
        objects = S3Bucket(s3_url)
        tries: list[Callable[[], object]] = [
            lambda: KlineStore.open(tmp_path / "home", objects_url=s3_url),
        ]
        if status != 200:
            tries += [objects.list, lambda: objects.get("a"), lambda: objects.put("a", b"1")]
        for trying in tries:
            with pytest.raises(MarketError) as caught:
                trying()
            assert "AWS_ENDPOINT_URL most likely names another" in caught.value.remedy, str(caught.value)
            assert not caught.value.remedy.startswith("put the file back")
        site.shutdown()


def test_the_servers_of_these_tests_leave_nothing_behind(tmp_path: Path) -> None:
    def traces() -> set[str]:
        return {
            entry.name for entry in Path("/tmp").iterdir() if entry.name.startswith(("seaweedfs-", "weed."))
        }

    before = traces()
    server = S3Server(tmp_path / "server")
    server.start()
    made = [entry.name for entry in server.folder.iterdir()]
    server.stop()
    assert made and not server.folder.exists()
    assert traces() <= before


def test_a_server_that_is_away_for_a_moment_is_asked_again(s3_url: str, s3_server: S3Server) -> None:
    objects = S3Bucket(s3_url)
    s3_server.kill()
    putting = threading.Thread(target=objects.put, args=("a", b"content"))
    putting.start()
    s3_server.start()
    putting.join()
    assert objects.get("a") == b"content"


def test_an_answer_that_is_cut_off_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("market.store.objects_s3._RETRIES", 0)

    class CutOff(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            for name, value in (
                ("Content-Length", "1000"),
                ("ETag", '"1"'),
                ("Last-Modified", "Wed, 15 Nov 2023 00:00:00 GMT"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"half")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), CutOff) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        with pytest.raises(MarketError, match="cut off") as caught:
            open_objects("s3://bucket/prefix").get("1m/a.parquet")
        server.shutdown()
    assert "network" in caught.value.remedy and "another server" not in caught.value.remedy

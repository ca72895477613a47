"""Objects in a bucket: Amazon S3, or any server that speaks its protocol."""

from __future__ import annotations

import builtins
import logging
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store
from polars.exceptions import PolarsError

from market.bucket_url import parse_bucket_url
from market.errors import MarketError
from market.store.objects import StoredObject, checked_name, not_there

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

logger = logging.getLogger(__name__)

_CLIENT: Final = "object-store error"  # so begins what Polars says of a failed request
_PART: Final = 16 << 20  # bytes of a part of a multipart upload; smaller objects go in one request
_PARTS_AT_ONCE: Final = 4
_LONGEST: Final = timedelta(minutes=2)  # of one request, a part of an upload among them
_SILENCE: Final = timedelta(
    seconds=15
)  # without a byte of an answer; not for uploads, which have none while they last
_REPEATED: Final = timedelta(seconds=30)
_RETRIES: Final = 10  # with longer and longer pauses
_LISTENER_PAUSES_S: Final = (0.5, 1.0, 2.0, 4.0)  # a server that is being started again gets a moment
_CREDENTIALS: Final = (
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI",),
)
_REMEDIES: Final = {
    "NoSuchBucket": "create the bucket, or name another one in the URL",
    "InvalidAccessKeyId": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a key of this server",
    "SignatureDoesNotMatch": "set AWS_SECRET_ACCESS_KEY to the secret of AWS_ACCESS_KEY_ID, and AWS_REGION to"
    " the bucket's region",
    "ExpiredToken": "renew AWS_SESSION_TOKEN with its keys",
    "RequestTimeTooSkewed": "set this machine's clock right",
    "AccessDenied": "check the AWS_* keys, and let them list the bucket, and read, write and delete in it",
    "AuthorizationHeaderMalformed": "set AWS_REGION to the bucket's region",
    "PermanentRedirect": "set AWS_REGION to the bucket's region",
}
_UNREACHABLE: Final = (
    "check AWS_ENDPOINT_URL, AWS_REGION and the network, then run this again; nothing stored is lost"
)


_NOT_S3: Final = "no S3: "
_NO_S3_SERVER: Final = (
    "AWS_ENDPOINT_URL most likely names another server, or another port of it: give that of its S3 API; nothing"
    " stored is lost"
)


class S3Bucket:
    """Objects in a bucket, under a prefix.

    Endpoint, region and credentials are those of the environment: ``AWS_ENDPOINT_URL``, ``AWS_REGION``,
    ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN``, or what a web identity or a container
    is given. Requests that fail on the way are repeated for up to half a minute before an error is raised; a server
    that accepts them and says nothing is given up after about as long, an upload to it after two minutes.

    Parameters
    ----------
    url : str
        ``s3://bucket/prefix``, prefix optional.

    Raises
    ------
    MarketError
        If the URL or the endpoint is none, or the environment holds no credentials. Nothing is asked of the server.
    """

    def __init__(self, url: str) -> None:
        self._bucket, self._prefix = parse_bucket_url(url)
        self._endpoint = _endpoint()
        self._listens = False
        _require_credentials(url)
        try:
            self._store = self._client()
            self._asking = self._client(_SILENCE)
        except (BaseError, OSError) as error:
            raise self._fault(str(error), self.where) from None

    @property
    def where(self) -> str:
        """URL of the bucket's prefix, and the endpoint if it is not Amazon's."""
        url = f"s3://{self._bucket}" + (f"/{self._prefix}" if self._prefix else "")
        if not self._endpoint:
            return url
        parts = urlsplit(self._endpoint)
        return f"{url} at {parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    @property
    def storage_options(self) -> dict[str, Any] | None:
        """Endpoint and retries; the credentials stay in the environment, where Polars finds them too."""
        retries = {"max_retries": _RETRIES}
        return {**retries, "aws_endpoint_url": self._endpoint} if self._endpoint else retries

    @property
    def scratch(self) -> Path:
        """The folder of temporary files."""
        return Path(tempfile.gettempdir())

    def put(self, name: str, data: bytes | memoryview | Path) -> None:
        """See `ObjectStore.put`: one request, or parts that become an object in the last one."""
        if isinstance(data, memoryview):  # obstore would take it for a row of parts
            data = bytes(data)
        with self.explained(name):
            obstore.put(
                self._store, checked_name(name), data, chunk_size=_PART, max_concurrency=_PARTS_AT_ONCE
            )

    def create(self, name: str, data: bytes) -> bool:
        """See `ObjectStore.create`: a PUT with ``If-None-Match: *``.

        Few servers ignore that header; there, of two that create at the same moment the later one wins.
        """
        if self.exists(name):
            return False
        with self.explained(name):
            try:
                obstore.put(self._asking, name, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
        return True

    def get(self, name: str) -> bytes:
        """See `ObjectStore.get`."""
        with self.explained(name):
            return obstore.get(self._asking, checked_name(name)).bytes().to_bytes()

    def read(self, name: str, start: int, end: int) -> bytes:
        """See `ObjectStore.read`."""
        with self.explained(name):
            return obstore.get_range(self._asking, checked_name(name), start=start, end=end).to_bytes()

    def exists(self, name: str) -> bool:
        """See `ObjectStore.exists`."""
        with self.explained(name):
            try:
                obstore.head(self._asking, checked_name(name))
            except FileNotFoundError:
                return False
        return True

    def delete(self, name: str) -> None:
        """See `ObjectStore.delete`."""
        with self.explained(name):
            obstore.delete(self._asking, checked_name(name))

    def uri(self, name: str) -> str:
        """Return the object's URL."""
        return "s3://" + "/".join(filter(None, (self._bucket, self._prefix, checked_name(name))))

    def local_path(self, name: str) -> Path | None:
        """Return None: an object is no file of this machine."""
        checked_name(name)
        return None

    def list(self) -> builtins.list[StoredObject]:
        """See `ObjectStore.list`; parts of an upload that was cut short are not listed."""
        with self.explained():
            return [
                StoredObject(item["path"], int(item["last_modified"].timestamp() * 1_000), item["size"])
                for page in obstore.list(self._asking)
                for item in page
            ]

    @contextmanager
    def explained(self, name: str | None = None) -> Iterator[None]:
        """See `ObjectStore.explained`; the client's own text may quote the request, so none of it is passed on."""
        self._require_listener()
        try:
            yield
        except (BaseError, OSError, PolarsError) as error:
            if isinstance(error, PolarsError) and _CLIENT not in str(error):
                raise
            if name is None and (found := re.search(r"Object at location (\S+) not found", str(error))):
                name = found[1]
            where = self.where if name is None else f"{name} in {self.where}"
            raise self._fault(str(error), where) from None

    def _require_listener(self) -> None:
        """See before the first request that somebody listens: the client would try for a minute, and say nothing.

        Amazon's own servers, and what is reached through a proxy, are left to the client.
        """
        if self._listens or not self._endpoint or getproxies():
            return
        parts = urlsplit(self._endpoint)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        for pause_s in (*_LISTENER_PAUSES_S, None):
            try:
                socket.create_connection((parts.hostname or "", port), timeout=5).close()
            except OSError as error:
                if pause_s is None:
                    what = f"the S3 server cannot be reached: {error.strerror or error}"
                    raise MarketError(what, where=self.where, remedy=_UNREACHABLE) from None
                logger.warning("nobody answers at %s yet: %s", self.where, error.strerror or error)
                time.sleep(pause_s)
            else:
                self._listens = True
                return

    def _client(self, silence: timedelta | None = None) -> S3Store:
        options: ClientConfig = {
            "allow_http": bool(self._endpoint and self._endpoint.startswith("http://")),
            "connect_timeout": timedelta(seconds=5),
            "timeout": _LONGEST,
        }
        if silence is not None:
            options["read_timeout"] = silence
        return S3Store(
            self._bucket,
            prefix=self._prefix or None,
            disable_bulk_delete=True,  # some servers have no DeleteObjects
            client_options=options,
            retry_config=_retry_config(),
        )

    def _fault(self, text: str, where: str) -> MarketError:
        code = _code(text)
        if code == "NoSuchKey":
            return not_there(where)
        if code == "NoSuchBucket":
            what = f"there is no bucket {self._bucket!r}"
        elif code is not None and code.startswith(_NOT_S3):
            what = f"a web server answers there, but not as S3 does: {code.removeprefix(_NOT_S3)}"
            return MarketError(what, where=where, remedy=_NO_S3_SERVER)
        elif code is not None:
            what = f"the server refuses the request: {code}"
        elif "body error" in text:
            what = "an answer of the S3 server was cut off"
        elif re.search(r"kind: Timeout|TimedOut", text):
            what = "the S3 server does not answer"
        elif "HttpError" in text or "error sending request" in text:
            what = "the S3 server cannot be reached"
        else:
            what = "what answers there does not answer as S3 does"
            return MarketError(what, where=where, remedy=_NO_S3_SERVER)
        return MarketError(what, where=where, remedy=_REMEDIES.get(code or "", _UNREACHABLE))


def _code(text: str) -> str | None:
    """Return the S3 error code of a client's error; what has no code has a status at best."""
    if found := re.search(r"<Code>(\w+)</Code>", text):
        return found[1]
    if "without LOCATION" in text:
        return "PermanentRedirect"
    status = re.search(r"status code: (\d{3})", text)
    if status is None:
        return None
    if status[1] in (
        "404",
        "405",
        "501",
    ):  # S3 says with a code what is not there, and knows all these methods
        return f"{_NOT_S3}HTTP {status[1]}"
    by_status = {"403": "AccessDenied", "401": "AccessDenied"}
    return by_status.get(status[1], f"HTTP{status[1]}")


def _endpoint() -> str | None:
    """Return the URL of a server other than Amazon's, None if the environment names none."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        url = os.environ.get(name)
        if url is None:
            continue
        if urlsplit(url).scheme in ("http", "https") and urlsplit(url).hostname:
            return url
        raise MarketError(
            "the S3 server's URL is none",
            where=name,
            remedy="give a URL such as https://s3.example or http://127.0.0.1:9000, or unset it for Amazon's",
        )
    return None


def _require_credentials(url: str) -> None:
    if not any(all(os.environ.get(name) for name in names) for names in _CREDENTIALS):
        raise MarketError(
            "there are no credentials for the bucket",
            where=url,
            remedy="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment",
        )


def _retry_config() -> RetryConfig:
    return {
        "max_retries": _RETRIES,
        "retry_timeout": _REPEATED,
        "backoff": {
            "init_backoff": timedelta(milliseconds=300),
            "max_backoff": timedelta(seconds=5),
            "base": 3,
        },
    }

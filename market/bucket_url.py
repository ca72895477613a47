"""URLs of a place in a bucket: ``s3://bucket/prefix``."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from market.errors import MarketError

S3_SCHEME: Final = "s3://"


def parse_bucket_url(url: str) -> tuple[str, str]:
    """Return bucket and prefix (without slashes at its ends, maybe empty) of a URL.

    Raises
    ------
    MarketError
        If the URL is none of a bucket, or holds keys, a port or a query.
    """
    parts = urlsplit(url)
    names = [name for name in parts.path.split("/") if name]
    unusual = parts.query or parts.fragment or "@" in parts.netloc or ":" in parts.netloc or ".." in names
    if not url.startswith(S3_SCHEME) or not parts.netloc or unusual:
        raise MarketError(
            "the URL of the cold files is none of a bucket",
            where=f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}",
            remedy="give s3://bucket/prefix; keys and endpoint come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"
            " and AWS_ENDPOINT_URL",
        )
    return parts.netloc, "/".join(names)

"""Asking a server on this machine with the standard library alone."""

from __future__ import annotations

import urllib.request
from typing import Final

DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""No proxy of the environment is asked for an address on this machine."""

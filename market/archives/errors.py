"""What can go wrong with an archive file. Nothing of a file with a fault is ever stored."""

from __future__ import annotations

from market.client_errors import ExchangeError


class NotInArchiveError(ExchangeError):
    """HTTP 404: the host has no such file. That is an answer, not a fault."""


class ArchiveFileError(ExchangeError):
    """A file that was received and cannot be trusted: its checksum, its zip, its name inside, or its content."""


class ArchiveHostError(ExchangeError):
    """The archive host refuses everything, or is no archive host."""

    host_wide = True

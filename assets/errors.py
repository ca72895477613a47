"""Errors that name what is wrong, where, and what to do: the ones of this package."""

from __future__ import annotations


class AssetError(Exception):
    """Something a user can put right.

    Parameters
    ----------
    what, where, remedy
        What is wrong, which setting, file or host it is about, and what to do about it.
    """

    def __init__(self, what: str, *, where: str, remedy: str) -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(f"{what}\n  where: {where}\n  do: {remedy}")


class SettingsError(AssetError):
    """A setting that cannot be used."""


class GivenValueError(SettingsError):
    """A value that cannot be used, given for one command or run: on its command line, or in its run config."""


class SourceMismatchError(AssetError):
    """Bars of two exchanges must not meet in one store."""


class NotMadeYetError(AssetError):
    """An asset was asked for before the one it is made from exists."""

"""What is known about the use of one host's limits: in this process, or in a file for all of a user's processes.

The file is small (at most 4 KiB) and is read and written whole under `flock`, which the system lets go of when its
holder dies. A write is one `pwrite` within a page, so a kill leaves the old or the new state.
"""

from __future__ import annotations

import fcntl
import math
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

from market.errors import MarketError

_MAGIC: Final = b"klbudget"
_VERSION: Final = 1
_HEADER: Final = struct.Struct("<8sIIqqqqq?7x6d")
_CLAIM: Final = struct.Struct("<Iid")
_MOST_BYTES: Final = 4_096
_MOST_CLAIMS: Final = (_MOST_BYTES - _HEADER.size) // _CLAIM.size
_CLAIM_LIFE_S: Final = 60.0
_AHEAD_S: Final = 120.0  # slots lie within the minute that runs
LONGEST_BAN_S: Final = 7 * 86_400.0
"""Exchanges ban for three days at most; a longer pause is a mistake, theirs or that of a clock."""
_FADING: Final = 0.95  # a minute; sweeps that come every quarter of an hour are still half remembered
_KEPT_S: Final = 7 * 86_400.0


@dataclass(slots=True)
class Claim:
    """Weight that one process has sent or is sending without an answer yet, and when that last changed."""

    in_flight: int
    touched: float


@dataclass(slots=True)
class BudgetState:
    """All that is known about one host; times are seconds since the epoch.

    Attributes
    ----------
    weight_per_minute : int
        The exchange's limit; 0 where nobody has told it yet.
    used, told, told_at
        Weight used in the exchange's minute: its last word and when that came, or our own count where it tells none.
    minute : int
        Our own minute, for a host that tells no count.
    sweep_now, sweep_peak : int
        Weight that sweeps have taken in the exchange's minute, and what they may take in one, by experience.
    sweep_slot, backfill_slot, probe_slot : float
        Before this no further request of that kind goes.
    resume_at : float
        The end of the longest Retry-After that any process has received.
    sweep_until : float
        Until then a sweep is under way, or waits.
    claims : dict
        By process id.
    """

    weight_per_minute: int = 0
    used: int = 0
    minute: int = 0
    sweep_now: int = 0
    sweep_peak: int = 0
    told: bool = False
    told_at: float = 0.0
    sweep_slot: float = 0.0
    backfill_slot: float = 0.0
    probe_slot: float = 0.0
    resume_at: float = 0.0
    sweep_until: float = 0.0
    claims: dict[int, Claim] = field(default_factory=dict)

    def turn(self) -> None:
        """Begin another minute of the exchange: no reason to go on waiting for it."""
        self.sweep_peak = max(self.sweep_now, int(self.sweep_peak * _FADING))
        self.sweep_now = 0
        self.sweep_slot = self.backfill_slot = self.probe_slot = 0.0

    def forget_another_time(self, now: float) -> None:
        """Drop what was noted by a clock that has been set back since: nothing lasts longer than this."""
        if self.resume_at - now > LONGEST_BAN_S:
            self.resume_at = 0.0
        if (
            max(self.sweep_slot, self.backfill_slot, self.probe_slot, self.sweep_until, self.told_at) - now
            > _AHEAD_S
        ):
            self.sweep_slot = self.backfill_slot = self.probe_slot = self.sweep_until = 0.0
            self.told_at = now

    def in_flight(self) -> int:
        """Return the weight without an answer yet, over all processes."""
        return sum(claim.in_flight for claim in self.claims.values())

    def claim(self, pid: int, weight: int, now: float) -> None:
        """Add to what a process has in flight, or take from it."""
        claim = self.claims.get(pid)
        if claim is None:
            claim = self.claims[pid] = Claim(0, now)
        claim.in_flight = max(0, claim.in_flight + weight)
        claim.touched = now
        if not claim.in_flight:
            del self.claims[pid]

    def forget_the_dead(self, pid: int, now: float) -> None:
        """Drop what processes have claimed that are gone, or that have been silent for longer than a request lasts."""
        if len(self.claims) == (pid in self.claims):
            return
        for other, claim in list(self.claims.items()):
            if other != pid and (abs(now - claim.touched) > _CLAIM_LIFE_S or not _is_alive(other)):
                del self.claims[other]


class BudgetMemory(Protocol):
    """Where a `BudgetState` is kept."""

    def change(self, *, durable: bool = False) -> AbstractContextManager[BudgetState]:
        """Give the state, locked, as a context manager; what was changed is kept at its end."""
        ...

    def resume_at(self) -> float:
        """Return `BudgetState.resume_at` as it is at this moment, without a lock."""
        ...


class ProcessMemory:
    """The state in this process alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state = BudgetState()

    @contextmanager
    def change(self, *, durable: bool = False) -> Iterator[BudgetState]:
        """Give the state, locked."""
        with self._lock:
            yield self._state

    def resume_at(self) -> float:
        """Return the end of the longest Retry-After."""
        return self._state.resume_at


class FileMemory:
    """The state in a file that all processes of one user share.

    Parameters
    ----------
    path : Path
        The file; it and its folder are made, readable for this user alone.

    Raises
    ------
    MarketError
        If it cannot be made, read, written or locked.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._renew_lock)  # another thread may hold it at that moment
        self._pid = 0
        self._file = -1
        with self._lock, self._explained():
            self._open(os.getpid())
            _clear_away_old(path.parent)

    @contextmanager
    def change(self, *, durable: bool = False) -> Iterator[BudgetState]:
        """Give the state, locked against all threads and processes; with `durable` it survives a power cut."""
        with self._lock, self._explained():
            pid = os.getpid()
            if pid != self._pid:  # a forked child would share the lock of its parent
                self._open(pid)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            while not os.fstat(self._file).st_nlink:  # cleared away meanwhile: go on with the new one
                self._open(pid)
                fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                before = os.pread(self._file, _MOST_BYTES, 0)
                state = _unpacked(before)
                yield state
                after = _packed(state)
                if after != before[: len(after)]:
                    os.pwrite(self._file, after, 0)
                    if durable:
                        os.fsync(self._file)
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def resume_at(self) -> float:
        """Return the end of the longest Retry-After: one number of a state that is written in one piece."""
        try:
            return _unpacked(os.pread(self._file, _MOST_BYTES, 0)).resume_at
        except OSError:
            with self._explained():
                raise

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def _open(self, pid: int) -> None:
        if self._file >= 0:
            os.close(self._file)  # of a parent's lock this takes nothing away
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file, self._pid = os.open(self._path, flags, 0o600), pid

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise MarketError(
                f"the record of requests that all processes share cannot be kept: {error.strerror or error}",
                where=str(self._path),
                remedy="set XDG_STATE_HOME to a folder on this machine that this user can write to",
            ) from error


def _clear_away_old(folder: Path) -> None:
    """Remove states that nobody has touched for longer than any ban lasts: each built-in exchange has had a port."""
    oldest = time.time() - _KEPT_S
    for entry in os.scandir(folder):
        with suppress(OSError):  # in use, or another process is at it
            if entry.is_file(follow_symlinks=False) and entry.stat().st_mtime < oldest:
                _remove_idle(entry.path, oldest)


def _remove_idle(path: str, oldest: float) -> None:
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file).st_mtime < oldest:
            Path(path).unlink()
    finally:
        os.close(file)


def state_folder() -> Path:
    """Return the folder of all hosts' states: below XDG_STATE_HOME, by default ~/.local/state.

    It belongs to the user and not to a KLINECAST_HOME: several homes on one machine share its address, and an
    exchange counts by address.

    Raises
    ------
    MarketError
        If there is no home folder, and XDG_STATE_HOME is not set.
    """
    given = os.environ.get("XDG_STATE_HOME", "")
    if given.startswith("/"):
        return Path(given, "klinecast", "limits")
    try:
        return Path.home() / ".local" / "state" / "klinecast" / "limits"
    except RuntimeError as error:  # a user without a home, as in some containers
        raise MarketError(
            "there is no home folder for the record of requests that all processes share",
            where="HOME and XDG_STATE_HOME",
            remedy="set XDG_STATE_HOME to a folder on this machine that this user can write to",
        ) from error


def state_file(folder: Path, host: str) -> Path:
    """Return the file of one host."""
    return folder / quote(host, safe="")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _packed(state: BudgetState) -> bytes:
    claims = list(state.claims.items())
    if len(claims) > _MOST_CLAIMS:
        claims = sorted(claims, key=lambda item: -item[1].touched)[:_MOST_CLAIMS]
    header = _HEADER.pack(
        _MAGIC,
        _VERSION,
        len(claims),
        state.weight_per_minute,
        state.used,
        state.minute,
        state.sweep_now,
        state.sweep_peak,
        state.told,
        state.told_at,
        state.sweep_slot,
        state.backfill_slot,
        state.probe_slot,
        state.resume_at,
        state.sweep_until,
    )
    return header + b"".join(_CLAIM.pack(pid, claim.in_flight, claim.touched) for pid, claim in claims)


def _unpacked(data: bytes) -> BudgetState:
    """Read a state; what is no state (an empty file, or what a power cut has left) is the state of a new host."""
    if len(data) < _HEADER.size or not data.startswith(_MAGIC):
        return BudgetState()
    _, version, count, *fields = _HEADER.unpack_from(data)
    if version != _VERSION:
        raise OSError(f"it was written in version {version}, this klinecast knows version {_VERSION}")
    if len(data) < _HEADER.size + count * _CLAIM.size or not all(map(math.isfinite, fields)):
        return BudgetState()
    body = data[_HEADER.size : _HEADER.size + count * _CLAIM.size]
    state = BudgetState(*fields)
    state.claims = {pid: Claim(weight, touched) for pid, weight, touched in _CLAIM.iter_unpack(body)}
    return state

"""Compiled engines on disk: filled once, under a lock, in a writable place; loaded without Numba.

Numba compiles a feature set's step function once per machine; its object code is kept in a file named after a hash of
everything it depends on. A later process hands that file to LLVM's loader, which takes milliseconds and imports
neither Numba nor a compiler. Processes that start together wait for the first to finish.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from kernels.errors import KernelError
from kernels.generate import Program
from kernels.locks import held_if_possible

log = logging.getLogger(__name__)

Entry = Callable[[int], int]
_SOURCES = ("lanes.py", "memory.py", "logarithm.py", "generate.py", "driver.py", "compile.py")
_loaded: list[Any] = []  # execution engines own the machine code: they live as long as the process


def cache_folder() -> Path:
    """First writable one of NUMBA_CACHE_DIR, the XDG cache folder, KLINECAST_HOME and the temporary folder."""
    environment = os.environ
    candidates: list[Path] = []
    if environment.get("NUMBA_CACHE_DIR"):
        candidates.append(Path(environment["NUMBA_CACHE_DIR"]) / "klinecast")
    xdg = environment.get("XDG_CACHE_HOME")
    candidates.append((Path(xdg) if xdg else Path("~/.cache").expanduser()) / "klinecast" / "kernels")
    if environment.get("KLINECAST_HOME"):
        candidates.append(Path(environment["KLINECAST_HOME"]) / "cache" / "kernels")
    candidates.append(Path(tempfile.gettempdir()) / f"klinecast-kernels-{os.getuid()}")
    for folder in candidates:
        if _is_ours(folder):
            return folder
    raise KernelError(
        "no folder for compiled kernels that only this user can write",
        where=", ".join(map(str, candidates)),
        remedy="set NUMBA_CACHE_DIR to one",
    )


def _is_ours(folder: Path) -> bool:
    """Writable by us, and by nobody else: what lies in it will be run as code."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        facts = folder.stat()
    except OSError:
        return False
    return facts.st_uid == os.getuid() and not facts.st_mode & 0o022 and os.access(folder, os.W_OK | os.X_OK)


@lru_cache(maxsize=1)
def _environment_key() -> str:
    """Everything but the program that machine code depends on."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for name in _SOURCES:
        digest.update((here / name).read_bytes())
    llvm.initialize_native_target()
    facts = (
        version("numba"),
        version("llvmlite"),
        llvm.get_host_cpu_name(),
        llvm.get_host_cpu_features().flatten(),
    )
    digest.update(repr(facts).encode())
    return digest.hexdigest()


def entry_point(program: Program, width: int, out_bits: int) -> Entry:
    """Compiled engine for the program: from the cache, or compiled now and kept.

    Parameters
    ----------
    program
        The feature set.
    width
        Symbols per lane group.
    out_bits
        32 or 64: the outputs' float type.

    Returns
    -------
    callable
        Takes the address of a job (see `driver.Job`), returns `driver.OK` or the row of a bad bar. Releases the GIL.
    """
    key = hashlib.sha256(f"{_environment_key()} {width} {out_bits}\n{program.source}".encode()).hexdigest()[
        :40
    ]
    try:
        path = cache_folder() / f"{key}.kernel"
    except KernelError as error:
        log.warning("every process compiles for itself: %s", error)
        return _link(*_compile(program, width, out_bits))
    kernel = _read(path)
    if kernel is None:
        with held_if_possible(path.with_suffix(".lock"), "others may compile the same kernels"):
            kernel = _read(path)
            if kernel is None:
                kernel = _compile(program, width, out_bits)
                _keep(path, *kernel)
    return _link(*kernel)


def _compile(program: Program, width: int, out_bits: int) -> tuple[str, bytes]:
    from kernels.compile import compile_program

    started = time.perf_counter()
    kernel = compile_program(program, width, out_bits)
    log.info("compiled %d features in %.1f s", len(program.features), time.perf_counter() - started)
    return kernel


def _read(path: Path) -> tuple[str, bytes] | None:
    """Symbol and object code, or None where the file is absent or damaged."""
    try:
        head, _, code = path.read_bytes().partition(b"\n")
        facts = json.loads(head)
        if hashlib.sha256(code).hexdigest() == facts["sha256"]:
            return facts["symbol"], code
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        pass
    log.warning("damaged kernel cache file %s: compiling anew", path)
    return None


def _keep(path: Path, symbol: str, code: bytes) -> None:
    """Publish if the disk takes it: what has been compiled serves this process in any case."""
    try:
        for left in path.parent.glob(f"{path.stem}-*"):  # by a process that was killed: its lock is ours now
            left.unlink(missing_ok=True)
        _publish(path, symbol, code)
    except OSError as error:
        log.warning("compiled kernels cannot be kept, the next process compiles again: %s", error)


def _publish(path: Path, symbol: str, code: bytes) -> None:
    head = json.dumps({"symbol": symbol, "sha256": hashlib.sha256(code).hexdigest()}).encode()
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}-")
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(head + b"\n" + code)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _link(symbol: str, code: bytes) -> Entry:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _loaded.append(engine)
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(engine.get_function_address(symbol))

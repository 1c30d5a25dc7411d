"""Generated modules on disk, so that numba compiles a kernel once and not in every process.

Python and machine code from the cache is executed. So the folder must belong to the user and be writable by nobody
else; where that cannot be had, kernels are compiled afresh and nothing is kept.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import stat
import sys
import tempfile
import threading
import time
from functools import cache
from pathlib import Path
from types import ModuleType

_LOADED: dict[str, ModuleType] = {}
_LOCK = threading.Lock()


@cache
def numba_is_there() -> bool:
    """Whether numba can be imported."""
    return importlib.util.find_spec("numba") is not None


def choose_kernels() -> bool:
    """Whether kernels are used outside of scans."""
    return os.environ.get("MINIGRAD_BACKEND") != "numpy" and numba_is_there()


def cache_folder() -> Path | None:
    """Where generated modules are kept: $MINIGRAD_CACHE, or minigrad's folder in the user's cache; None if unsafe.

    Set MINIGRAD_CACHE to an empty string to keep nothing.
    """
    chosen = os.environ.get("MINIGRAD_CACHE")
    if chosen == "":
        return None
    try:
        if chosen:
            folder = Path(chosen)
        elif sys.platform == "win32":
            folder = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "minigrad" / "kernels"
        else:
            folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minigrad" / "kernels"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder if _ours(folder) else None
    except (OSError, RuntimeError):
        return None


def _ours(path: Path) -> bool:
    """Whether `path` is a real file or folder of this user that nobody else may write to."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return False
    if not hasattr(os, "getuid"):
        return True  # Windows keeps a user's cache to the user
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def load_module(source: str) -> ModuleType:
    """The module of this source, from the cache or compiled now; says so on stderr when that takes over a second."""
    digest = hashlib.sha256(source.encode()).hexdigest()[:24]
    with _LOCK:
        known = _LOADED.get(digest)
        if known is None:
            start = time.perf_counter()
            folder = cache_folder()
            there = folder is not None and (folder / f"kernels_{digest}.py").exists()
            known = _from_disk(source, digest, folder) if folder else None
            kept = known is not None
            if known is None:
                known = ModuleType(f"minigrad_kernels_{digest}")
                exec(compile("CACHE = False\n" + source, f"<kernels {digest}>", "exec"), known.__dict__)
            _LOADED[digest] = known
            seconds = time.perf_counter() - start
            if seconds > 1.0:
                print(f"minigrad: {'loaded' if there and kept else 'compiled'} kernels in {seconds:.1f} s"
                      + (" (kept for the next run)" if kept and not there else ""), file=sys.stderr)
        return known


def _from_disk(source: str, digest: str, folder: Path) -> ModuleType | None:
    """Import the module from a file in `folder`, writing it first if need be; None where that does not work."""
    path = folder / f"kernels_{digest}.py"
    text = "CACHE = True\n" + source
    try:
        if not (path.exists() and _ours(path) and path.read_text(encoding="utf-8") == text):
            handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(temporary, path)  # whole or not there, whoever else is writing it
        beside = folder / "__pycache__"
        if beside.exists() and not _ours(beside):
            return None
        spec = importlib.util.spec_from_file_location(f"minigrad_kernels_{digest}", path)
        if spec is None or spec.loader is None:
            return None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    except OSError:
        return None

"""What NumPy's matrix products run on.

One question, asked by people whose training is slow: which BLAS is this, which kernels did it choose, how
many threads does it use, and could the CPU do better?  `blas_info` only reads; it never sets a variable,
never changes a thread count, and never raises. Programs that train may call `keep_memory` and `use_threads`
at their start.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

import numpy as np


class BlasInfo(TypedDict):
    """What `blas_info` found; an entry it could not find is None (or an empty string of advice)."""

    library: str | None  # "scipy-openblas", "mkl", "accelerate", …
    version: str | None  # "0.3.31"
    config: str | None  # the library's own one-line description
    core: str | None  # the kernels in use: "SkylakeX", "Haswell", "neoversev1", …
    threads: int | None
    path: str | None  # the shared library
    advice: str  # what to set before starting Python, or ""


# NumPy's wheels prefix and suffix the symbols of their OpenBLAS; distributions do not.
_AFFIXES = [("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", "")]
# OpenBLAS's kernel names, by the SIMD extension they use.
_AVX512_CORES = {"skylakex", "cooperlake", "sapphirerapids"}
_AVX2_CORES = {"haswell", "zen", "excavator"}


def blas_info() -> BlasInfo:
    """Library, version, kernel name and threads of the BLAS that NumPy uses here, and advice on it."""
    info = BlasInfo(library=None, version=None, config=None, core=None, threads=None, path=None, advice="")
    build = _numpy_build()
    info["library"], info["version"] = build.get("name"), build.get("version")
    info["config"] = build.get("openblas configuration")
    for path in _candidates():
        if _ask_openblas(path, info):
            break
    info["advice"] = _advice(info["core"], cpu_features())
    return info


def cpu_features() -> set[str]:
    """Names of the SIMD extensions that this CPU has and NumPy knows ("AVX2", "AVX512F", "ASIMD", …)."""
    try:
        simd: dict[str, bool] = np._core._multiarray_umath.__cpu_features__  # type: ignore[attr-defined]
        return {name for name, present in simd.items() if present}
    except Exception:
        return set()


def cpu_name() -> str:
    """The CPU's model name as the system gives it, else its architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except Exception:
        pass
    return platform.processor() or platform.machine() or "unknown CPU"


def _numpy_build() -> dict[str, Any]:
    try:
        config: Any = np.show_config(mode="dicts")
        found: dict[str, Any] = config["Build Dependencies"]["blas"]
        return found
    except Exception:
        return {}


def _candidates() -> list[Path]:
    """Shared libraries that may be NumPy's BLAS: those in its wheel, then those loaded in this process."""
    found: list[Path] = []
    try:
        package = Path(np.__file__).parent
        for folder in (package.parent / "numpy.libs", package / ".dylibs", package / ".libs"):
            found += sorted(p for p in folder.glob("*blas*") if p.is_file())
        if not found and sys.platform == "linux":
            for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
                match = re.search(r"(/\S*blas\S*\.so\S*)$", line)
                if match and Path(match[1]) not in found:
                    found.append(Path(match[1]))
    except Exception:
        pass
    return found


def _loaded(path: Path) -> Any:
    """The library at `path` if this process has loaded it, else None."""
    try:
        # RTLD_NOLOAD finds a loaded library and never brings one in; Windows has no such mode.
        mode = getattr(os, "RTLD_NOW", 0) | getattr(os, "RTLD_NOLOAD", 0) or ctypes.DEFAULT_MODE
        return ctypes.CDLL(str(path), mode=mode)
    except Exception:
        return None


def _ask_openblas(path: Path, info: BlasInfo) -> bool:
    """Fill `info` from the OpenBLAS at `path`; True if it is one, and NumPy has already loaded it."""
    library = _loaded(path)
    for prefix, suffix in _AFFIXES:
        try:
            core = getattr(library, f"{prefix}openblas_get_corename{suffix}")
            config = getattr(library, f"{prefix}openblas_get_config{suffix}")
            threads = getattr(library, f"{prefix}openblas_get_num_threads{suffix}")
        except AttributeError:
            continue
        try:
            core.argtypes = config.argtypes = threads.argtypes = []
            core.restype = config.restype = ctypes.c_char_p
            threads.restype = ctypes.c_int
            info["core"] = (core() or b"").decode(errors="replace") or None
            info["config"] = (config() or b"").decode(errors="replace").strip() or info["config"]
            info["threads"] = int(threads())
            info["path"] = str(path)
        except Exception:
            return False
        return True
    return False


def _advice(core: str | None, features: set[str]) -> str:
    """What to set so that OpenBLAS uses the widest kernels that `features` allow."""
    if not core:
        return ""
    now = core.lower()
    if now in _AVX512_CORES:
        return ""
    if {"AVX512F", "AVX512BW", "AVX512DQ", "AVX512VL"} <= features:
        best, why = "SkylakeX", "AVX-512"
    elif {"AVX2", "FMA3"} <= features and now not in _AVX2_CORES:
        best, why = "Haswell", "AVX2"
    else:
        return ""
    return (f"this CPU has {why}, but OpenBLAS uses its {core} kernels: set OPENBLAS_CORETYPE={best} before "
            f"starting Python; matrix products may be up to twice as fast")


def keep_memory() -> bool:
    """Ask the C library to keep freed memory for the next training step instead of returning it to the system.

    A training step frees its whole graph and the next one allocates it again. By default glibc hands large freed
    blocks back to the system, and every page of them has to be mapped anew, which can cost more than the
    arithmetic. This is a setting of the whole process, so importing minigrad does not make it: programs that train
    call it once at the start.

    Returns:
        Whether the C library has such a setting (glibc does).
    """
    largest = 2**31 - 1
    trim_threshold, mmap_threshold = -1, -3  # mallopt's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(trim_threshold, largest)) and bool(mallopt(mmap_threshold, largest))


def thread_count() -> int:
    """How many threads NumPy's matrix products use now; 1 where its BLAS does not say."""
    ask = _thread_counter()
    return 1 if ask is None else max(1, int(ask()))


@cache
def _thread_counter() -> Any:
    return _openblas("get_num_threads")


def _openblas(name: str) -> Any:
    """A function of NumPy's OpenBLAS, or None."""
    for path in _candidates():
        library = _loaded(path)
        for prefix, suffix in _AFFIXES:
            found = getattr(library, f"{prefix}openblas_{name}{suffix}", None)
            if found is not None:
                return found
    return None


def use_threads(count: int) -> bool:
    """Let NumPy's matrix products use so many threads from now on.

    The products of a recurrent network's time step are small: a second thread brings little where a core is free, and
    where none is, waiting for it can take several times as long as the product.

    Returns:
        Whether NumPy's BLAS is an OpenBLAS, which can be told.

    Raises:
        ValueError: less than one thread.
    """
    if count < 1:
        raise ValueError(f"matrix products need at least one thread, not {count}.")
    tell = _openblas("set_num_threads")
    if tell is None:
        return False
    tell.argtypes, tell.restype = [ctypes.c_int], None
    tell(count)
    return True

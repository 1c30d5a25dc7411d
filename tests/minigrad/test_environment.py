"""What the machine computes with, and what to set: reported, never changed."""

import os
import sys

import pytest

from minigrad import environment
from minigrad.environment import blas_info, cpu_features, cpu_name, keep_memory, use_threads


def test_blas_info_says_what_there_is():
    before = dict(os.environ)
    info = blas_info()
    assert dict(os.environ) == before
    assert {"library", "config", "core", "threads", "advice"} <= info.keys()
    assert isinstance(info["library"], str) and info["library"]
    assert isinstance(info["advice"], str)
    if info["threads"] is not None:
        assert info["threads"] >= 1


def test_the_cpu_is_named():
    assert isinstance(cpu_name(), str)
    assert all(isinstance(f, str) for f in cpu_features())


@pytest.mark.parametrize(("core", "features", "advised"), [
    ("Haswell", {"AVX512F", "AVX512BW", "AVX512DQ", "AVX512VL", "AVX2", "FMA3"}, "OPENBLAS_CORETYPE=SkylakeX"),
    ("SkylakeX", {"AVX512F", "AVX512BW", "AVX512DQ", "AVX512VL"}, ""),
    ("Nehalem", {"AVX2", "FMA3"}, "OPENBLAS_CORETYPE=Haswell"),
    ("Haswell", {"AVX2", "FMA3"}, ""),
    ("Nehalem", set(), ""),
    (None, {"AVX2", "FMA3"}, ""),
])
def test_advice_names_the_widest_kernels(core, features, advised):
    advice = environment._advice(core, features)
    assert (advised in advice) if advised else advice == ""


def test_keep_memory_tells_whether_it_could():
    assert isinstance(keep_memory(), bool)


def test_keep_memory_without_such_a_setting(monkeypatch):
    class Library:
        pass

    monkeypatch.setattr(environment.ctypes, "CDLL", lambda name: Library())
    assert keep_memory() is False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_keep_memory_on_glibc():
    import platform

    if platform.libc_ver()[0] == "glibc":
        assert keep_memory() is True


def test_use_threads_tells_openblas():
    before = blas_info()["threads"]
    if before is None:
        assert use_threads(1) is False
        return
    try:
        assert use_threads(1) is True and blas_info()["threads"] == 1
        assert use_threads(2) is True and blas_info()["threads"] == 2
    finally:
        use_threads(before)


def test_use_threads_needs_one():
    with pytest.raises(ValueError, match="at least one thread, not 0"):
        use_threads(0)


def test_use_threads_without_openblas(monkeypatch):
    monkeypatch.setattr(environment, "_candidates", list)
    assert use_threads(1) is False

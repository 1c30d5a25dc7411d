"""What the machine computes with, and what to set: reported, not changed, but for how long OpenBLAS's threads wait."""

import os
import subprocess
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


class OpenBLAS:
    """A library that answers as an OpenBLAS does."""

    def __init__(self, core=b"Haswell", config=b" OpenBLAS 0.3 ", threads=3):
        for name, answer in (("corename", core), ("config", config), ("num_threads", threads)):
            setattr(self, f"openblas_get_{name}", Answer(answer))


class Answer:
    def __init__(self, answer):
        self.answer = answer

    def __call__(self):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(("libraries", "core", "threads"), [
    ([OpenBLAS()], "Haswell", 3), ([None, OpenBLAS(b"Zen")], "Zen", 3), ([object()], None, None),
    ([OpenBLAS(threads=OSError("broken"))], "Haswell", None), ([OpenBLAS(core=None)], None, 3), ([], None, None)])
def test_what_a_blas_answers(monkeypatch, libraries, core, threads):
    loaded = dict(zip("abc", libraries))
    monkeypatch.setattr(environment, "_candidates", lambda: list(loaded))
    monkeypatch.setattr(environment, "_loaded", loaded.get)
    monkeypatch.setattr(environment, "_numpy_build", dict)
    info = blas_info()
    assert (info["core"], info["threads"]) == (core, threads)
    assert info["library"] is None and isinstance(info["advice"], str)


def test_a_numpy_that_says_nothing_about_itself(monkeypatch):
    """Wherever a system keeps these things elsewhere, or not at all, less is reported and nothing fails."""
    def broken(*_, **__):
        raise OSError

    monkeypatch.setattr(environment.np, "show_config", broken)
    monkeypatch.setattr(environment.Path, "read_text", broken)
    monkeypatch.setattr(environment.Path, "glob", broken)
    monkeypatch.setattr(environment.np._core._multiarray_umath, "__cpu_features__", None)
    info = blas_info()
    assert info["library"] is info["core"] is info["threads"] is None and info["advice"] == ""
    assert cpu_features() == set() and cpu_name()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_blas_of_the_system_is_found_among_what_is_loaded(monkeypatch):
    maps = "7f00-7f01 r-xp 0 08:01 42   /usr/lib/libopenblas.so.0\n7f00-7f02 r-xp 0 08:01 43   /usr/lib/libc.so.6\n"
    monkeypatch.setattr(environment.Path, "glob", lambda *_: [])
    monkeypatch.setattr(environment.Path, "read_text", lambda *_, **__: maps * 2)
    assert [str(p) for p in environment._candidates()] == ["/usr/lib/libopenblas.so.0"]
    assert environment._loaded("/nowhere/libblas.so") is None
    assert cpu_name()  # no line names a model there


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


LOOKING = """
import os, sys
class Look:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            print(os.environ.get("OPENBLAS_THREAD_TIMEOUT"))
sys.meta_path.insert(0, Look())
import {first}, minigrad
print(os.environ.get("OPENBLAS_THREAD_TIMEOUT"))
"""


@pytest.mark.parametrize(("first", "given", "seen", "left"), [
    ("minigrad", None, "20", "None"), ("rnn", None, "20", "None"), ("numpy", None, "None", "None"),
    ("minigrad", "4", "4", "4"),
])
def test_numpy_is_loaded_with_a_short_wait_of_its_threads(first, given, seen, left):
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_THREAD_TIMEOUT"}
    environment |= {} if given is None else {"OPENBLAS_THREAD_TIMEOUT": given}
    ran = subprocess.run([sys.executable, "-c", LOOKING.format(first=first)], env=environment, capture_output=True,
                         text=True, check=True)
    assert ran.stdout.split() == [seen, left]

"""Where generated modules are kept, what is done when that does not work, and BLAS by its addresses."""

import os
import sys
import tempfile
from pathlib import Path

import pytest

from minigrad.compile import blas, kernel_cache

SOURCE = "kept = CACHE\n"
posix = pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners and modes are POSIX's")


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch):
    monkeypatch.setattr(kernel_cache, "_LOADED", {})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path / "kernels"))
    return kernel_cache.cache_folder()


def test_a_module_is_made_once(folder):
    first = kernel_cache.load_module(SOURCE)
    assert first.kept is True and kernel_cache.load_module(SOURCE) is first
    assert len(list(folder.glob("*.py"))) == 1 and not list(folder.glob("*.tmp"))
    assert kernel_cache.load_module(SOURCE + "other = 1\n") is not first


@posix
def test_a_link_in_the_folder_is_not_followed(folder, tmp_path):
    kernel_cache.load_module(SOURCE)
    (path,) = folder.glob("*.py")
    elsewhere = tmp_path / "elsewhere.py"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    kernel_cache._LOADED.clear()
    assert kernel_cache.load_module(SOURCE).kept is True
    assert not path.is_symlink() and elsewhere.exists()


@posix
def test_machine_code_that_others_may_write_to_is_not_read(folder):
    beside = folder / "__pycache__"
    beside.mkdir()
    beside.chmod(0o777)
    assert kernel_cache.load_module(SOURCE).kept is False


def test_without_a_folder_modules_stay_in_memory(monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE", "")
    assert kernel_cache.load_module(SOURCE).kept is False


def test_a_full_disk_keeps_nobody_from_computing(folder, monkeypatch):
    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkstemp", full)
    assert kernel_cache.load_module(SOURCE).kept is False


def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path / "file" / "kernels"))
    assert kernel_cache.cache_folder() is None


@pytest.mark.parametrize("platform, variable", [("linux", "XDG_CACHE_HOME"), ("win32", "LOCALAPPDATA")])
def test_the_users_own_folder(platform, variable, tmp_path, monkeypatch):
    monkeypatch.delenv("MINIGRAD_CACHE", raising=False)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv(variable, str(tmp_path))
    assert kernel_cache.cache_folder() == tmp_path / "minigrad" / "kernels"
    monkeypatch.delenv(variable)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert tmp_path / "home" in kernel_cache.cache_folder().parents


def test_long_compilations_are_announced(folder, monkeypatch, capsys):
    clock = iter(range(0, 100, 3))
    monkeypatch.setattr(kernel_cache.time, "perf_counter", lambda: next(clock))
    kernel_cache.load_module(SOURCE)
    kernel_cache._LOADED.clear()
    kernel_cache.load_module(SOURCE)
    monkeypatch.setenv("MINIGRAD_CACHE", "")
    kernel_cache._LOADED.clear()
    kernel_cache.load_module(SOURCE)
    assert capsys.readouterr().err.splitlines() == [
        "minigrad: compiled kernels in 3.0 s (kept for the next run)",
        "minigrad: loaded kernels in 3.0 s", "minigrad: compiled kernels in 3.0 s"]


def test_another_blas_has_no_addresses(tmp_path, monkeypatch):
    for path in (None, str(tmp_path / "no_library.so"), sys.executable):
        monkeypatch.setattr(blas, "blas_info", lambda path=path: {"path": path})
        assert blas.gemm_addresses.__wrapped__() == {}

"""Checkpoints: what goes in comes out; whatever is wrong with a file is one clear error."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import stat
import struct
import tracemalloc
import warnings
import zipfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import checkpoint
from minigrad.checkpoint import CheckpointError, latest, load, save, save_rotating

Point = namedtuple("Point", "x y")


def same(a, b) -> bool:
    """Equal with types, dtypes and bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def tree():
    rng = np.random.default_rng(0)
    return {"model": {"weight": rng.standard_normal((3, 4)).astype(np.float32),
                      "bias": np.zeros(4, np.float16)},
            "ids": np.arange(5), "step": 7, "lr": 0.1, "name": "größe 크기 🙂"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "c.npz"


# ------------------------------------------------------------------------------------------------------------
# Round trips
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [
    None, True, False, 0, -1, 2**53 + 1, -2**255, 2**256, -2**4000, 2**20000, 0.1, -0.0, 5e-324, 1.7e308,
    math.inf,
    -math.inf, math.nan, "", "a\0b", "\ud800", "크기 🙂\n\"\\", [], (), {}, [[]], [(), {}], {"": None},
    {1: 2, "1": 3},
    {2**300: "big key"}, {"array": 0}, {"dict": []}, {"float": "nan"}, {"tuple": 1},
    [1, [2.5, ("x", {"y": [None]})]]],
    ids=lambda v: repr(v)[:30] if not isinstance(v, int) or abs(v) < 1e9 else f"int{v.bit_length()}")
def test_values(value, path) -> None:
    save(path, value)
    assert same(load(path), value)
    save(path, {"nested": [value, (value,)]})
    assert same(load(path), {"nested": [value, (value,)]})


def test_the_sign_of_zero(path) -> None:
    save(path, -0.0)
    assert math.copysign(1, load(path)) == -1


@pytest.mark.parametrize("dtype", ["bool", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8",
                                   ">i4", ">f8"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (2, 3, 4)])
def test_arrays(dtype: str, shape: tuple[int, ...], path) -> None:
    a = np.random.default_rng(0).integers(0, 2**7, shape).astype(dtype)
    save(path, {"a": a, "again": [a]})
    b = load(path)
    native = np.asarray(a, a.dtype.newbyteorder("="), order="C")
    assert same(b["a"], native) and same(b["again"][0], native)
    assert b["a"].flags.writeable and b["a"].flags.owndata and b["a"].flags.aligned
    assert not np.shares_memory(b["a"], b["again"][0])


def test_special_floats_keep_their_bits(path) -> None:
    a = np.array([0x7FC12345, 0xFFC00001, 0x80000000, 1, 0x7F800000], np.uint32).view(np.float32)
    save(path, a)
    assert load(path).tobytes() == a.tobytes()


def test_layouts_of_memory(path) -> None:
    a = np.arange(24.0).reshape(4, 6)
    views = [a.T, a[::-1, ::2], np.asfortranarray(a), np.broadcast_to(a[0], (3, 6)), a[1:, 2:3]]
    save(path, views)
    for expected, found in zip(views, load(path), strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.flags.c_contiguous


def test_what_becomes_something_else(path) -> None:
    p = mg.nn.Parameter([1.0, 2.0])
    state, f4 = Point(p, mg.tensor(3)), np.float32(0.1)
    save(path, {"state": state, "np": [np.float64(0.5), f4, np.bool_(True)], "key": {np.str_("k"): 1}})
    found = load(path)
    assert same(found["state"], (np.array([1, 2], np.float32), np.array(3)))
    assert same(found["np"], [0.5, np.array(f4), np.array(True)])
    assert list(found["key"]) == ["k"]


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_generators_go_on_where_they_were(kind: str, path) -> None:
    rng = np.random.Generator(getattr(np.random, kind)(5))
    rng.random(3)
    rng.integers(5, dtype=np.uint32)
    save(path, {"a": rng, "b": rng.bit_generator.state})
    expected = rng.random(10)
    for state in load(path).values():
        fresh = np.random.Generator(getattr(np.random, kind)(0))
        fresh.bit_generator.state = state
        np.testing.assert_array_equal(fresh.random(10), expected)


def test_a_whole_run_resumes(path) -> None:
    def fresh():
        model = mg.nn.Sequential(mg.nn.Linear(3, 8, rng=0), mg.nn.Dropout(0.3, rng=1),
                                 mg.nn.Linear(8, 1, rng=2))
        return model, mg.optim.Adam(model.parameters(), lr=0.01), np.random.default_rng(3)

    def train(model, optimiser, rng, steps: int) -> None:
        for _ in range(steps):
            loss = mg.mse_loss(model(mg.tensor(rng.random((4, 3), np.float32))), np.ones((4, 1), np.float32))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    a = fresh()
    train(*a, 5)
    save(path, {"model": a[0].state_dict(), "generators": a[0].generator_state(),
                "optimiser": a[1].state_dict(),
                "rng": a[2]})
    train(*a, 5)
    b, state = fresh(), load(path)
    b[0].load_state_dict(state["model"])
    b[0].load_generator_state(state["generators"])
    b[1].load_state_dict(state["optimiser"])
    b[2].bit_generator.state = state["rng"]
    train(*b, 5)
    assert same(b[0].state_dict(), a[0].state_dict())


def test_the_file_is_a_plain_npz(path) -> None:
    save(path, tree())
    with np.load(path, allow_pickle=False) as z:
        assert z.files == ["metadata.json", "0", "1", "2"]
        np.testing.assert_array_equal(z["0"], tree()["model"]["weight"])
        assert json.loads(z["metadata.json"])["version"] == checkpoint.VERSION
    with zipfile.ZipFile(path) as z:
        assert z.testzip() is None and all(m.compress_type == zipfile.ZIP_STORED for m in z.infolist())


def test_equal_trees_make_equal_files(tmp_path) -> None:
    save(tmp_path / "a.npz", tree())
    save(tmp_path / "b.npz", tree())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


# ------------------------------------------------------------------------------------------------------------
# What cannot be saved
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bad", "text"), [
    ({"a": [1, {2, 3}]}, r"tree\['a'\]\[1\].* set"), ({"a": object()}, "object"), ({"f": print}, "builtin"),
    (np.array([None]), "not object"), (np.array(["a"]), "not <U1"), (np.zeros(2, complex), "complex"),
    (np.zeros(2, "M8[s]"), "datetime"), (np.zeros(2, [("x", "f4")]), "not"),
    (np.longdouble(1), "float128|not"),
    (np.ma.masked_array([1.0, 2.0], [True, False]), "MaskedArray"),
    (np.zeros(2).view(np.recarray), "recarray"),
    ({None: 1}, "keys"), ({True: 1}, "keys"), ({(1, 2): 1}, "keys"), ({1.5: 1}, "keys"), (1j, "complex"),
    (b"x", "bytes"),
    (np.random.RandomState(0), "RandomState")])
def test_what_cannot_be_saved(bad, text: str, path) -> None:
    save(path, "old")
    with pytest.raises(TypeError, match=text):
        save(path, bad)
    assert load(path) == "old" and os.listdir(path.parent) == [path.name]


def test_too_deep_or_in_itself(path) -> None:
    loop: list = []
    loop.append(loop)
    with pytest.raises(ValueError, match="holds itself"):
        save(path, loop)
    deep: list = []
    for _ in range(checkpoint.DEPTH_LIMIT):
        deep = [deep]
    save(path, deep)
    assert load(path) == deep
    with pytest.raises(ValueError, match="deeper"):
        save(path, [deep])


def test_too_many_arrays_or_too_much_beside_them(path, monkeypatch) -> None:
    monkeypatch.setattr(checkpoint, "MEMBER_LIMIT", 3)
    save(path, [np.zeros(1)] * 3)
    with pytest.raises(ValueError, match="at most 3 arrays"):
        save(path, [np.zeros(1)] * 4)
    monkeypatch.setattr(checkpoint, "METADATA_LIMIT", 100)
    with pytest.raises(ValueError, match="at most 100 bytes"):
        save(path, "x" * 100)


# ------------------------------------------------------------------------------------------------------------
# Writing that fails
# ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def old(path):
    save(path, "old")
    return path


def check_old(path) -> None:
    assert load(path) == "old"
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("budget", [0, 10, 100, 5000, 20_000, 40_300])
def test_a_full_disk(budget: int, old, monkeypatch) -> None:
    class Disk(io.FileIO):
        left = budget

        def write(self, data) -> int:
            if self.left < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.left -= len(data)
            return super().write(data)

    def opened(name, mode):
        return Disk(name, "x+") if mode == "x+b" else open(name, mode)

    monkeypatch.setattr(checkpoint, "open", opened, raising=False)
    with pytest.raises(CheckpointError, match="No space left") as error:
        save(old, {"a": np.zeros(5000)})
    assert "\n" not in str(error.value) and str(old) in str(error.value)
    check_old(old)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_syncing_or_renaming_fails(call: str, old, monkeypatch) -> None:
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(checkpoint.os, call, fail)
    with pytest.raises(CheckpointError, match="Input/output error"):
        save(old, [1])
    monkeypatch.undo()
    check_old(old)


def test_an_interrupt_is_passed_on(old, monkeypatch) -> None:
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(old, [1])
    monkeypatch.undo()
    check_old(old)


def test_order_of_writing_syncing_and_renaming(old, monkeypatch) -> None:
    calls = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(handle):
        calls.append("sync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "sync file")
        real_fsync(handle)

    def replace(a, b):
        assert os.path.dirname(a) == os.path.dirname(b) and load(a) == [1]
        calls.append("rename")
        real_replace(a, b)

    monkeypatch.setattr(checkpoint.os, "fsync", fsync)
    monkeypatch.setattr(checkpoint.os, "replace", replace)
    save(old, [1])
    assert calls == ["sync file", "rename", "sync folder"]


def test_a_folder_that_cannot_be_synced_is_no_error(path, monkeypatch) -> None:
    real = os.fsync

    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(handle)

    monkeypatch.setattr(checkpoint.os, "fsync", fsync)
    save(path, 1)
    assert load(path) == 1


def test_places_that_cannot_be_written(tmp_path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "missing" / "c.npz", tmp_path / "folder", tmp_path / "file" / "c.npz",
                  tmp_path / ("n" * 300)):
        with pytest.raises(CheckpointError, match="could not write"):
            save(place, 1)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"] and os.listdir(tmp_path / "folder") == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(old) -> None:
    old.parent.chmod(0o555)
    try:
        with pytest.raises(CheckpointError, match="Permission denied"):
            save(old, 1)
        check_old(old)
    finally:
        old.parent.chmod(0o755)


def test_a_folder_that_refuses(old, monkeypatch) -> None:
    def refuse(name, mode):
        if "x" in mode:
            raise PermissionError(errno.EACCES, "Permission denied")
        return open(name, mode)

    monkeypatch.setattr(checkpoint, "open", refuse, raising=False)
    with pytest.raises(CheckpointError, match="Permission denied"):
        save(old, 1)
    check_old(old)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_mode_is_what_the_umask_says(mask: int, path) -> None:
    before = os.umask(mask)
    try:
        save(path, 1)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_a_link_stays_a_link(tmp_path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link.npz").symlink_to(tmp_path / "there" / "real.npz")
    save(tmp_path / "link.npz", 1)
    assert (tmp_path / "link.npz").is_symlink() and load(tmp_path / "there" / "real.npz") == 1


def test_names_of_every_kind(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("plain", "ünïcode 크기.npz", "n" * 250, "with space.npz"):
        save(name, name)
        assert load(name) == name
    save(b"bytes.npz".decode(), 1)


# ------------------------------------------------------------------------------------------------------------
# Damage
# ------------------------------------------------------------------------------------------------------------


def refused(path, text: str = "cannot load") -> str:
    with pytest.raises(CheckpointError, match=text) as error:
        load(path)
    message = str(error.value)
    assert "\n" not in message and str(path) in message and len(message) < 600
    return message


def test_every_flipped_bit_is_noticed(path) -> None:
    save(path, {"w": np.arange(8.0), "n": "x"})
    good = path.read_bytes()
    for k in range(len(good)):
        bad = bytearray(good)
        for bit in range(8):
            bad[k] = good[k] ^ 1 << bit
            with pytest.raises(CheckpointError, match="truncated or damaged"):
                checkpoint._read(io.BytesIO(bad))
    for k in range(0, len(good), 97):
        path.write_bytes(good[:k] + bytes([good[k] ^ 1]) + good[k + 1:])
        refused(path, "truncated or damaged")


def test_truncated_or_longer(path) -> None:
    save(path, tree())
    good = path.read_bytes()
    for size in range(len(good)):
        with pytest.raises(CheckpointError, match="truncated or damaged"):
            checkpoint._read(io.BytesIO(good[:size]))
    for size in (0, 1, 63, 64, 65, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:size])
        refused(path, "truncated or damaged")
    for bad in (good + b"\0", b"\0" + good, good * 2, good[:100] + good[101:]):
        path.write_bytes(bad)
        refused(path, "truncated or damaged")


def test_other_files(tmp_path) -> None:
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    contents = {"empty": b"", "text": b"hello\n" * 30, "zeros": bytes(1000), "zip": b"PK\5\6" + bytes(18)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for file in list(tmp_path.iterdir()):
        refused(file, "no checkpoint")
    refused(tmp_path / "missing", "no such file")
    refused(tmp_path, "no such file")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        refused(tmp_path / "pipe", "no such file")
    if os.path.exists("/dev/zero"):
        with pytest.raises(CheckpointError):
            load("/dev/zero")


# ------------------------------------------------------------------------------------------------------------
# Hostile files: the digest is right, the rest is not
# ------------------------------------------------------------------------------------------------------------


def sealed(content: bytes) -> bytes:
    """Content that ends in a zip comment of 64 bytes, with the right digest put there."""
    return content[:-64] + hashlib.sha256(content[:-64]).hexdigest().encode()


def npy(header: bytes | dict, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    text = header if isinstance(header, bytes) else repr(header).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H", len(text)) + text + data


def head(descr: object = "<f8", shape: object = (2,), fortran_order: object = False) -> dict:
    return {"descr": descr, "fortran_order": fortran_order, "shape": shape}


def archive(tree: object, *arrays: bytes, names: list[str] | None = None, metadata: bytes | None = None,
            compression: int = zipfile.ZIP_STORED, **extra: object) -> bytes:
    out = io.BytesIO()
    whole = {"format": checkpoint.FORMAT, "version": 1, "tree": tree, **extra}
    names = names or ["metadata.json"] + [f"{k}.npy" for k in range(len(arrays))]
    with zipfile.ZipFile(out, "w", compression) as z:
        z.comment = b"0" * 64
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # duplicate names
            for name, data in zip(names, [metadata or json.dumps(whole).encode(), *arrays], strict=True):
                z.writestr(zipfile.ZipInfo(name), data, compression)
    return sealed(out.getvalue())


GOOD = npy(head(), bytes(16))


def test_the_helpers_of_these_tests_make_good_files(path) -> None:
    path.write_bytes(archive({"array": 0}, GOOD))
    np.testing.assert_array_equal(load(path), np.zeros(2))


@pytest.mark.parametrize("names", [
    ["metadata.json", "metadata.json"], ["0.npy", "metadata.json"], ["metadata.json", "../../0.npy"],
    ["metadata.json", "/etc/passwd"], ["metadata.json", "1.npy"], ["metadata.json", "0.npy/"],
    ["metadata.json", "C:\\0.npy"], ["metadata.json", "0"], ["METADATA.JSON", "0.npy"],
    ["metadata.json", "00.npy"], ["metadata.json", "\u0660.npy"]])
def test_hostile_names(names: list[str], path) -> None:
    path.write_bytes(archive({"array": 0}, GOOD, names=names))
    before = sorted(os.listdir(path.parent))
    refused(path, "members are not those|BadZipFile")
    assert sorted(os.listdir(path.parent)) == before


def test_duplicate_members(path) -> None:
    path.write_bytes(archive({"array": 0}, GOOD, GOOD, names=["metadata.json", "0.npy", "0.npy"]))
    refused(path, "members are not those")


def test_no_members(path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.comment = b"0" * 64
    path.write_bytes(sealed(out.getvalue()))
    refused(path, "members are not those")


def test_a_deflated_bomb_is_not_inflated(path) -> None:
    bomb = npy(head("|u1", (30_000_000,)), bytes(30_000_000))
    path.write_bytes(archive({"array": 0}, bomb, compression=zipfile.ZIP_DEFLATED))
    del bomb
    assert path.stat().st_size < 50_000
    tracemalloc.start()
    refused(path, "not stored")
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


def test_lying_sizes(path) -> None:
    content = bytearray(archive({"array": 0}, GOOD))
    entry = content.rfind(b"PK\x01\x02")
    content[entry + 20:entry + 28] = struct.pack("<LL", 2**31, 2**31)
    path.write_bytes(sealed(bytes(content)))
    refused(path, "larger than they can be")


def test_overlapping_members_gain_nothing(path) -> None:
    content = bytearray(archive([{"array": 0}, {"array": 1}], GOOD, GOOD))
    first = content.rfind(b"PK\x01\x02", 0, content.rfind(b"PK\x01\x02"))
    last = content.rfind(b"PK\x01\x02")
    content[last + 42:last + 46] = content[first + 42:first + 46]
    path.write_bytes(sealed(bytes(content)))
    refused(path)


def test_an_encrypted_member(path) -> None:
    content = bytearray(archive({"array": 0}, GOOD))
    content[content.rfind(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(sealed(bytes(content)))
    refused(path)


def test_very_many_entries_are_not_parsed(path) -> None:
    path.write_bytes(sealed(b"PK\x01\x02" * 100_000 + b"0" * 64))
    tracemalloc.start()
    refused(path, "too many members")
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


def test_a_wrong_crc(path) -> None:
    content = bytearray(archive({"array": 0}, GOOD))
    content[content.find(bytes(16), content.find(b"NUMPY"))] = 1
    path.write_bytes(sealed(bytes(content)))
    refused(path, "CRC")


@pytest.mark.parametrize("member", [
    b"", b"hello", GOOD[:20], npy(head(), bytes(16), (2, 0)), npy(head(), bytes(16), (9, 9)),
    npy(head(), bytes(15)), npy(head(), bytes(17)), npy(head(shape=(2**62, 2**62)), bytes(16)),
    npy(head(shape=(-2,)), bytes(16)), npy(head(shape=(-1, -2)), bytes(16)),
    npy(head(shape=(True, 2)), bytes(16)),
    npy(head(shape=(2.0,)), bytes(16)), npy(head(shape=2), bytes(16)),
    npy(head(shape=(1,) * 100 + (2,)), bytes(16)),
    npy(head(shape=(2**62, 0))), npy(head(shape=(2**70, 0))), npy(head("|O", (2,)), bytes(16)),
    npy(head("O", (2,)), bytes(16)),
    npy(head("<c16", (1,)), bytes(16)), npy(head("<f16", (1,)), bytes(16)),
    npy(head("|V16", (1,)), bytes(16)),
    npy(head("<M8[s]"), bytes(16)), npy(head("<U2"), bytes(16)), npy(head("|S8"), bytes(16)),
    npy(head(">f8"), bytes(16)),
    npy(head([("x", "<f8")]), bytes(16)), npy(head("(2,)<f4"), bytes(16)),
    npy(head(("<f4", (2,))), bytes(16)),
    npy(head("nonsense"), bytes(16)), npy(head(None), bytes(16)), npy(head(fortran_order=True), bytes(16)),
    npy(head(fortran_order=1), bytes(16)), npy(b"{'descr': '<f8', 'shape': (2,)}", bytes(16)),
    npy(b"__import__('os').system('true')", bytes(16)), npy(b"[" * 1000, bytes(16)),
    npy(b"(" * 300 + b")" * 300, bytes(16)),
    npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (2L,)}" + b" " * 4000, bytes(16)),
    npy(b"\xff" * 60, bytes(16)),
    npy(b"{'descr': '\\d', 'fortran_order': False, 'shape': (2,)}", bytes(16)),
    npy(head("|b1", (16,)), bytes(15) + b"\2"),
    npy(b"9" * 1500, bytes(16)), b"\x93NUMPY\1\0\xff\xff" + bytes(10)], ids=range(42))
@pytest.mark.filterwarnings("ignore")
def test_lying_headers(member: bytes, path) -> None:
    path.write_bytes(archive({"array": 0}, member))
    tracemalloc.start()
    refused(path)
    assert tracemalloc.get_traced_memory()[1] < 6_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("encoded", [
    {}, {"array": 0, "tuple": []}, {"array": 1}, {"array": -1}, {"array": True}, {"array": "0"},
    {"array": 0.0}, {"dict": {}},
    {"dict": [1]}, {"dict": [[1]]}, {"dict": [[None, 1]]}, {"dict": [[[], 1]]},
    {"dict": [["a", 1], ["a", 2]]},
    {"dict": [[{"float": "nan"}, 1]]}, {"dict": [[True, 1]]}, {"tuple": 3}, {"tuple": {}}, {"int": 5},
    {"int": "0xzz"},
    {"int": "10"}, {"int": "0x1_0"}, {"int": " 0x1"}, {"float": 1}, {"float": "1e5"}, {"float": "infinity"},
    {"float": []},
    {"set": []}, {"object": "os.system"}, [[{"array": 0}, {"array": 0}]], [{"array": 0}, {}], 5, None, []])
def test_hostile_trees(encoded: object, path) -> None:
    path.write_bytes(archive(encoded, GOOD))
    refused(path)


@pytest.mark.parametrize("metadata", [
    b" ", b"null", b"[]", b"3", b"{}", b'{"format": "minigrad checkpoint"}', b"\xff\xfe\xfd", b"{",
    b"[" * 100_000,
    b'{"format": "other", "version": 1, "tree": 1}', b'{"format": "minigrad checkpoint", "version": 1}',
    b'{"format": "minigrad checkpoint", "version": 1, "tree": NaN}', b'{"format": ["minigrad checkpoint"]}',
    b'{"format": "minigrad checkpoint", "version": 1, "tree": Infinity}',
    b'{"format": "minigrad checkpoint", "version": 1, "tree": %s}' % (b"9" * 10_000),
    b'{"format": "minigrad checkpoint", "version": 1, "tree": %s}' % (b"[" * 200 + b"]" * 200),
    b'{"format": "minigrad checkpoint", "version": 1, "tree": %s}' % (b'{"tuple": [' * 200 + b"]}" * 200)],
    ids=range(17))
def test_hostile_metadata(metadata: bytes, path) -> None:
    path.write_bytes(archive(None, metadata=metadata))
    refused(path)


def test_large_metadata(path) -> None:
    path.write_bytes(archive("x" * checkpoint.METADATA_LIMIT))
    tracemalloc.start()
    refused(path, "larger than they can be")
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(("version", "text"), [
    (2, "later release"), (10**6, "later release"), (0, "version is 0"), (-1, "version is -1"),
    (True, "version is True"), ("1", "version is '1'"), (1.0, r"version is 1\.0"), (None, "version is None")])
def test_wrong_versions(version: object, text: str, path) -> None:
    path.write_bytes(archive(1, version=version))
    refused(path, text)


def test_an_earlier_version_is_migrated(path, monkeypatch) -> None:
    save(path, {"learning_rate": 0.1, "w": np.ones(2)})

    def renamed(metadata):
        pairs = [["lr" if k == "learning_rate" else k, v] for k, v in metadata["tree"]["dict"]]
        return {**metadata, "version": 2, "tree": {"dict": pairs}}

    monkeypatch.setattr(checkpoint, "VERSION", 3)
    monkeypatch.setattr(checkpoint, "MIGRATIONS", {1: renamed, 2: lambda m: {**m, "version": 3}})
    found = load(path)
    assert list(found) == ["lr", "w"] and found["w"][0] == 1
    save(path, found)
    assert list(load(path)) == ["lr", "w"]


OLD = Path(__file__).parent / "golden" / "checkpoint-version-1.npz"


def test_a_file_of_the_first_version_loads() -> None:
    """This file is kept as it is, whatever the present version writes."""
    assert hashlib.sha256(OLD.read_bytes()).hexdigest().startswith("64063e011f7332bc")
    found = load(OLD)
    assert same(found["model"], {"weight": np.arange(6, dtype=np.float32).reshape(2, 3),
                                 "bias": np.array([0.5, -0.0, np.inf], np.float32)})
    assert same(found["state"], (np.array(True), None)) and found["step"] == 7 and found["big"] == 2**300
    assert found["name"] == "größe 크기" and math.isnan(found["rate"])


def test_a_file_of_the_first_version_goes_through_every_migration(monkeypatch) -> None:
    seen = []

    def migration(to):
        def migrate(metadata):
            seen.append((metadata["version"], to))
            return {**metadata, "version": to, "tree": {"dict": [*metadata["tree"]["dict"], [f"new in {to}", to]]}}

        return migrate

    monkeypatch.setattr(checkpoint, "VERSION", 3)
    monkeypatch.setattr(checkpoint, "MIGRATIONS", {**checkpoint.MIGRATIONS, 1: migration(2), 2: migration(3)})
    found = load(OLD)
    assert seen == [(1, 2), (2, 3)] and found["new in 3"] == 3 and found["step"] == 7


def test_every_earlier_version_has_a_migration_and_a_file() -> None:
    for version in range(1, checkpoint.VERSION):
        assert version in checkpoint.MIGRATIONS
        assert (OLD.parent / f"checkpoint-version-{version}.npz").exists()


@pytest.mark.parametrize("tree", [
    [[]] * 100_000, [0.5] * 100_000, {"tuple": [[]] * 100_000}, ["ab"] * 100_000, ["\U0001f642" + "x" * 2**21],
    {"dict": [[k, None] for k in range(100_000)]}], ids=range(6))
def test_metadata_that_unfold_to_far_more_than_the_file(tree, path) -> None:
    path.write_bytes(archive(tree))
    tracemalloc.start()
    refused(path, "too many values|larger than they can be")
    assert tracemalloc.get_traced_memory()[1] < 2 * path.stat().st_size + 4_000_000
    tracemalloc.stop()
    if isinstance(tree, list):
        with pytest.raises(ValueError, match="put long lists into arrays"):
            save(path, tree)


def test_beside_large_arrays_there_may_be_more(path) -> None:
    words = [f"word {k}" for k in range(70_000)]
    save(path, {"words": words, "w": np.zeros(300_000)})
    assert load(path)["words"] == words


def test_metadata_are_plain_ascii(path) -> None:
    path.write_bytes(archive(None, metadata='{"format": "minigrad checkpoint", "version": 1, "tree": "크"}'.encode()))
    refused(path, "not plain ASCII")


def test_a_list_of_members_longer_than_there_are_members(path) -> None:
    """Names of many kilobytes each, far more than a checkpoint has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path.write_bytes(archive(None, *[b""] * 100, names=["metadata.json", *["n" * 60_000] * 100]))
    tracemalloc.start()
    refused(path, "claims to be larger")
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


def test_mutated_files_give_an_error_or_the_right_answer(path, monkeypatch) -> None:
    """Random damage under a right digest: nothing but CheckpointError, no memory beyond the file's size."""
    rng = np.random.default_rng(0)
    original = {"w": np.arange(6.0), "b": np.zeros((2, 3), bool), "n": [1, 2.5, "x"]}
    save(path, original)
    good = path.read_bytes()
    right = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tracemalloc.start()
        for _ in range(1500):
            bad = bytearray(good)
            for _ in range(rng.integers(1, 4)):
                at = int(rng.integers(len(bad) - 64))
                choice = rng.integers(4)
                if choice == 0:
                    bad[at] ^= 1 << int(rng.integers(8))
                elif choice == 1:
                    bad[at] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF]))
                elif choice == 2:
                    del bad[at:at + int(rng.integers(1, 9))]
                else:
                    bad[at:at] = rng.bytes(int(rng.integers(1, 9)))
            content = io.BytesIO(sealed(bytes(bad)))
            monkeypatch.setattr(checkpoint, "open", lambda *_, content=content: content, raising=False)
            try:
                found = load(path)
            except CheckpointError as error:
                assert "\n" not in str(error)
            else:
                right += same(found, original)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 6_000_000 and right > 20  # dates and attributes do not matter


def test_loading_takes_no_more_memory_than_the_file_is_long(path) -> None:
    save(path, {"a": np.zeros(2_000_000), "b": np.ones(500_000)})
    size = path.stat().st_size
    tracemalloc.start()
    found = load(path)
    assert tracemalloc.get_traced_memory()[1] < 1.3 * size
    tracemalloc.reset_peak()
    base = tracemalloc.get_traced_memory()[0]
    save(path, found)
    assert tracemalloc.get_traced_memory()[1] - base < 1.1 * size
    tracemalloc.stop()


# ------------------------------------------------------------------------------------------------------------
# A folder of checkpoints
# ------------------------------------------------------------------------------------------------------------


def test_the_last_are_kept(tmp_path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    for step in (1, 2, 10, 100):
        made = save_rotating(folder, step, {"step": step}, keep=2)
        assert made == folder / f"checkpoint-{step:08d}.npz"
    assert sorted(p.name for p in folder.iterdir()) == ["checkpoint-00000010.npz", "checkpoint-00000100.npz"]
    found = latest(folder)
    assert found is not None and found[0].name == "checkpoint-00000100.npz" and found[1] == {"step": 100}
    save_rotating(folder, 101, 1, keep=1)
    assert os.listdir(folder) == ["checkpoint-00000101.npz"]


def test_nothing_else_is_deleted(tmp_path) -> None:
    for name in ("best-00000001.npz", "checkpoint-best.npz", "checkpoint-.npz", "notes.txt", ".other.tmp",
                 "checkpoint-1.npz.bak"):
        (tmp_path / name).write_text("x")
    (tmp_path / "checkpoint-00000000.npz").mkdir()
    before = set(os.listdir(tmp_path))
    (tmp_path / ".minigrad-0123456789abcdef.tmp").write_text("left by a crash")
    for step in range(1, 4):
        save_rotating(tmp_path, step, step, keep=1)
    assert set(os.listdir(tmp_path)) == before | {"checkpoint-00000003.npz"}
    save_rotating(tmp_path, 9, 9, prefix="[a]*")
    save_rotating(tmp_path, 10, 10, prefix="[a]*", keep=1)
    assert set(os.listdir(tmp_path)) == before | {"checkpoint-00000003.npz", "[a]*-00000010.npz"}


def test_going_back_to_an_earlier_step(tmp_path) -> None:
    """The newest is the one written last, whatever its number."""
    for step in (10, 20, 30):
        path = save_rotating(tmp_path, step, step)
        os.utime(path, ns=(step, step))
    path = save_rotating(tmp_path, 15, 15)
    assert latest(tmp_path) == (path, 15)
    assert sorted(p.name[-6:-4] for p in tmp_path.iterdir()) == ["15", "20", "30"]
    for path in tmp_path.iterdir():
        os.utime(path, ns=(5, 5))
    assert latest(tmp_path)[1] == 30


def test_latest_skips_the_damaged_with_a_warning_each(tmp_path) -> None:
    for step in range(4):
        os.utime(save_rotating(tmp_path, step, step, keep=4), ns=(step, step))
    for step, content in ((3, b""), (2, (tmp_path / "checkpoint-00000002.npz").read_bytes()[:-5])):
        (tmp_path / f"checkpoint-{step:08d}.npz").write_bytes(content)
        os.utime(tmp_path / f"checkpoint-{step:08d}.npz", ns=(step, step))
    with pytest.warns(RuntimeWarning, match="skipped a checkpoint") as caught:
        found = latest(tmp_path)
    assert found == (tmp_path / "checkpoint-00000001.npz", 1) and len(caught) == 2
    assert "00000003" in str(caught[0].message) and "00000002" in str(caught[1].message)


def test_latest_of_nothing(tmp_path) -> None:
    assert latest(tmp_path) is None and latest(tmp_path / "missing") is None
    (tmp_path / "checkpoint-1.npz").write_bytes(b"x")
    with pytest.warns(RuntimeWarning):
        assert latest(tmp_path) is None


def test_latest_by_another_pattern(tmp_path) -> None:
    save(tmp_path / "model.npz", 1)
    assert latest(tmp_path) is None
    assert latest(tmp_path, "*.npz") == (tmp_path / "model.npz", 1)


def test_a_failing_save_deletes_nothing(tmp_path, monkeypatch) -> None:
    for step in (1, 2):
        save_rotating(tmp_path, step, step)

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", fail)
    with pytest.raises(CheckpointError, match="No space left"):
        save_rotating(tmp_path, 3, 3, keep=1)
    monkeypatch.undo()
    assert len(os.listdir(tmp_path)) == 2 and latest(tmp_path)[1] == 2


def test_rotating_refuses(tmp_path) -> None:
    for step, keep in ((1, 0), (-1, 3)):
        with pytest.raises(ValueError, match="keep is at least"):
            save_rotating(tmp_path, step, 1, keep=keep)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="could not write"):
        save_rotating(tmp_path / "file", 1, 1)

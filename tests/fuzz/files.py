"""Damaged and hostile files: each gives an error of the documented kind or a right answer.

    python -m tests.fuzz.files --count 10000 --seed 0
    python -m tests.fuzz.files --seed 0 --only 1234 --keep file      one file again, kept to look at

Checkpoints, safetensors files, and what is read from the folder of a run. Never a crash, another exception, a hang, or
more memory than twice the file and a few megabytes. What is loaded in spite of the damage is compared with what another
reader finds in the file.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import os
import signal
import struct
import sys
import tempfile
import time
import tracemalloc
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

import minigrad as mg
from minigrad import checkpoint
from minigrad.checkpoint import CheckpointError
from rnn.build import make_model, make_plan, make_trainer
from rnn.interop.files import load_safetensors
from rnn.plot import plot_loss
from rnn.progress import Progress
from rnn.runs import Recorder, RunError, RunFolder, load_saved
from rnn.settings import Settings
from rnn.text import Vocabulary

Rng = np.random.Generator

ALLOWANCE = 24 * 2**20  # bytes of memory beyond twice the file
SECONDS = 20  # for one file


class Wrong(AssertionError):
    """A file was not dealt with as it should be."""


def one_of(rng: Rng, items: Any) -> Any:
    return items[int(rng.integers(len(items)))]


# ------------------------------------------------------------------------------------------------------------
# Damage
# ------------------------------------------------------------------------------------------------------------

NUMBERS = [0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
           0x100000000, 2**63 - 1, 2**63, 2**64 - 1]


def damaged(rng: Rng, content: bytes, times: int | None = None) -> bytes:
    """The bytes with a few random changes."""
    bad = bytearray(content)
    for _ in range(int(rng.integers(1, 5)) if times is None else times):
        at, length = int(rng.integers(len(bad) + 1)), int(rng.integers(1, 17))
        kind = rng.integers(9)
        if kind == 0 and at < len(bad):
            bad[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            bad[at:at + 1] = bytes([one_of(rng, [0, 1, 0x7F, 0x80, 0xFF, 0x22, 0x5B, 0x7B])])
        elif kind == 2:
            del bad[at:at + length]
        elif kind == 3:
            bad[at:at] = rng.bytes(length)
        elif kind == 4:
            del bad[at:]
        elif kind == 5:
            start = int(rng.integers(len(bad) + 1))
            bad[at:at] = bad[start:start + int(rng.integers(1, 400))]
        elif kind == 6:
            start = int(rng.integers(len(bad) + 1))
            bad[at:at + length] = bad[start:start + length]
        elif kind == 7:
            width = one_of(rng, [1, 2, 4, 8])
            bad[at:at + width] = (one_of(rng, NUMBERS) % 2 ** (8 * width)).to_bytes(width, "little")
        else:
            bad[at:at] = bytes(one_of(rng, [1, 100, 5000]))
    return bytes(bad)


JUNK: list[Any] = [None, True, False, 0, 1, -1, 2, 10**6, 2**31, 2**63, -2**63, 2**64, 10**30, 10**400, 0.5, -0.0,
                   1e308, math.nan, math.inf, -math.inf, "", "0", "x", "char", "lstm", "\0", "\ud800",
                   "../../etc/passwd", "x" * 10_000, [], [[]], {}, {"": 0}, [0], [1, 2], {"array": 0}, [None] * 100]


def shaken(rng: Rng, tree: Any, junk: Callable[[], Any], odds: float = 0.15) -> Any:
    """The tree with some of its parts replaced, left out, doubled or renamed."""
    if rng.random() < odds / 4:
        return junk()
    if isinstance(tree, dict):
        made = {}
        for key, value in tree.items():
            fate = rng.random()
            if fate < odds / 8:
                continue
            if fate < odds / 4:
                made[f"{key}x"] = value
            else:
                made[key] = shaken(rng, value, junk, odds)
        return made
    if isinstance(tree, (list, tuple)):
        made_list = [shaken(rng, value, junk, odds / max(len(tree), 1) * 3) for value in tree]
        if rng.random() < odds / 4:
            made_list = made_list[:-1] if rng.random() < 0.5 else [*made_list, *made_list]
        return type(tree)(made_list) if type(tree) in (list, tuple) else made_list
    return junk() if rng.random() < odds else tree


# ------------------------------------------------------------------------------------------------------------
# Checkpoints
# ------------------------------------------------------------------------------------------------------------


def sealed(content: bytes) -> bytes:
    """The content with the digest at its end that belongs to it."""
    body = content[:-checkpoint.DIGEST]
    return body + hashlib.sha256(body).hexdigest().encode()


def npy_bytes(array: Any, header: dict[str, Any] | None = None, version: tuple[int, int] = (1, 0)) -> bytes:
    """An array as a member, perhaps under another header."""
    out = io.BytesIO()
    npy.write_array(out, array, version=(1, 0), allow_pickle=False)
    if header is None and version == (1, 0):
        return out.getvalue()
    real = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
    text = repr({**real, **(header or {})}).encode("latin-1", "replace")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H", len(text) % 65536) + text + array.tobytes()


HEADERS: list[dict[str, Any]] = [
    {"shape": (2**62, 2**62)}, {"shape": (-1,)}, {"shape": (2**40,)}, {"shape": (10**9, 0)}, {"shape": ()},
    {"shape": (1,) * 70}, {"shape": [2]}, {"shape": (True,)}, {"shape": None}, {"fortran_order": True},
    {"fortran_order": 5}, {"descr": "|O"}, {"descr": "O"}, {"descr": "<M8[s]"}, {"descr": "|V1000000000"},
    {"descr": "<U2000000000"}, {"descr": [("a", "<f8", (10**9,))]}, {"descr": ">f8"}, {"descr": "<f16"},
    {"descr": "__import__('os').abort()"}, {"descr": None}, {"extra": 1}, {"descr": "x" * 60000}]
NAMES = ["../0.npy", "/etc/passwd", "0.npy", "metadata.json", "", ".", "0", "1.npy", "C:\\0.npy", "0.npy\0.txt",
         "a" * 60_000, "\u0660.npy", "0.npy/", "-0.npy", "00.npy", "x.pkl", "\ud55c" * 100]


def saved_bytes(tree: Any) -> bytes:
    """What `mg.save` writes."""
    arrays: list[Any] = []
    encoded = checkpoint._encode(tree, arrays, "", 0)
    metadata = {"format": checkpoint.FORMAT, "version": checkpoint.VERSION, "tree": encoded}
    out = io.BytesIO()
    checkpoint._write(out, json.dumps(metadata, allow_nan=False).encode(), arrays)
    return out.getvalue()


def some_tree(rng: Rng) -> Any:
    """A tree that a checkpoint can hold."""
    kinds = ["f4", "f8", "f2", "i8", "u1", "bool"]
    array = lambda: rng.integers(0, 2, tuple(rng.integers(0, 5, int(rng.integers(0, 4))))).astype(one_of(rng, kinds))
    return {"model": {f"w{k}": array() for k in range(int(rng.integers(0, 4)))}, "n": [1, 2.5, "x", None],
            "state": (array(), math.inf), "rng": rng.bit_generator.state, "step": int(rng.integers(2**40))}


def archive_of(rng: Rng) -> bytes:
    """A zip archive that looks like a checkpoint here and there."""
    arrays: list[Any] = []
    tree = checkpoint._encode(some_tree(rng), arrays, "", 0)
    metadata: Any = {"format": checkpoint.FORMAT, "version": checkpoint.VERSION, "tree": tree}
    members = [npy_bytes(a) for a in arrays]
    names = [checkpoint.METADATA, *(f"{k}.npy" for k in range(len(members)))]
    kind = rng.integers(9)
    compression = zipfile.ZIP_STORED
    if kind == 0:
        metadata = shaken(rng, metadata, lambda: one_of(rng, JUNK), 0.3)
    elif kind == 1 and members:
        k = int(rng.integers(len(members)))
        version = one_of(rng, [(1, 0), (1, 0), (1, 0), (2, 0), (3, 0), (9, 9), (0, 0)])
        members[k] = npy_bytes(arrays[k], one_of(rng, HEADERS), version)
    elif kind == 2:
        names[int(rng.integers(len(names)))] = one_of(rng, NAMES)
    elif kind == 3:
        k = int(rng.integers(len(members) + 1))
        extra = [npy_bytes(np.zeros(2))] * int(rng.integers(1, 4))
        members[k:k] = extra
        names[k + 1:k + 1] = [one_of(rng, NAMES) for _ in extra]
    elif kind == 4 and members:
        k = int(rng.integers(len(members)))
        members[k] = damaged(rng, members[k])
    elif kind == 5:
        compression = one_of(rng, [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
        if rng.random() < 0.2:  # a bomb
            compression = zipfile.ZIP_DEFLATED
            members.append(npy_bytes(np.zeros(4_000_000)))
            names.append(f"{len(members) - 1}.npy")
    elif kind == 6:
        metadata = {**metadata, "tree": wide(rng)}
        members, names = [], names[:1]
    text = json.dumps(metadata, ensure_ascii=bool(rng.random() < 0.9)).encode("utf-8", "surrogatepass")
    if kind == 7:
        text = damaged(rng, text)
    if kind == 8 or (kind == 6 and rng.random() < 0.3):
        text = hostile_json(rng, text)
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", compression) as z:
        warnings.simplefilter("ignore")  # duplicate names
        z.comment = b"0" * checkpoint.DIGEST
        for name, data in zip(names, [text, *members], strict=True):
            info = zipfile.ZipInfo(name or "x")
            info.compress_type = compression
            z.writestr(info, data)
    content = bytearray(out.getvalue())
    if kind == 5 and rng.random() < 0.7:  # deflated, and said to be stored, or only this, or that
        at = -1
        while (at := content.find(b"PK\x01\x02", at + 1)) >= 0:
            content[at + 10:at + 12] = b"\0\0"
            if rng.random() < 0.5:
                content[at + 20:at + 24] = content[at + 24:at + 28]
    return bytes(content)


def wide(rng: Rng) -> Any:
    """Values that are short in JSON and long in memory."""
    n = one_of(rng, [10, 1000, 1000, 30_000, 100_000])
    return one_of(rng, [
        lambda: [[]] * n, lambda: [0.5] * n, lambda: {"tuple": [[]] * n}, lambda: ["ab"] * n,
        lambda: {"dict": [[k, None] for k in range(n)]}, lambda: ["\U0001f642" + "x" * n] * 3,
        lambda: {"int": "0x" + "f" * n}, lambda: [{"float": "nan"}] * n,
        lambda: "\U0001f642" + "x" * 19 * n, lambda: "\U0001f642" + "x" * 30 * n])()


def hostile_json(rng: Rng, text: bytes) -> bytes:
    """JSON to break a reader."""
    n = one_of(rng, [50, 1000, 1000, 100_000])
    return one_of(rng, [
        b"[" * n, b'{"tree":' * n, b"[" * n + b"]" * n, b'{"a":' * n + b"1" + b"}" * n, b"9" * n, b"-",
        b"\xff\xfe" + text, b"\xef\xbb\xbf" + text, b"1e999999", b"NaN",
        b'{"format": "minigrad checkpoint", "version": 1, "tree": ' + b"[" * n + b"]" * n + b"}",
        b'{"format": "minigrad checkpoint", "version": 1, "version": 1, "tree": 1, "tree": 2}',
        b'{"format": "minigrad checkpoint", "version": 1, "tree": 1e999}', text.replace(b"1", b"1e400"),
        text.decode("utf-8", "replace").encode("utf-16"), text + text, text[:-1], b"\0" * n, b""])


def make_checkpoint(rng: Rng) -> bytes:
    if rng.random() < 0.3:
        content = saved_bytes(some_tree(rng))
    else:
        content = archive_of(rng)
    if rng.random() < 0.6:
        content = damaged(rng, content)
    if rng.random() < 0.1:  # a field of the archive's own
        at = content.find(one_of(rng, [b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"])) + int(rng.integers(4, 46))
        content = content[:at] + one_of(rng, NUMBERS).to_bytes(9, "little")[:4] + content[at + 4:]
    return sealed(content) if rng.random() < 0.8 else content


def read_checkpoint(path: Path) -> None:
    tree = mg.load(path)
    found: list[Any] = []

    def collect(part: Any) -> None:
        if isinstance(part, np.ndarray):
            found.append(part)
        for inner in part.values() if isinstance(part, dict) else part if isinstance(part, (list, tuple)) else ():
            collect(inner)

    collect(tree)
    with np.load(path, allow_pickle=False) as z:
        others = [z[name] for name in z.files if name != checkpoint.METADATA]
    key = lambda a: (a.dtype.str, a.shape, a.tobytes())
    if sorted(map(key, found)) != sorted(map(key, others)):
        raise Wrong("the arrays are not those that np.load finds")


# ------------------------------------------------------------------------------------------------------------
# safetensors
# ------------------------------------------------------------------------------------------------------------


def make_safetensors(rng: Rng) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"a": "b"}} if rng.random() < 0.2 else {}
    data = b""
    for k in range(int(rng.integers(0, 4))):
        shape, dtype = tuple(rng.integers(0, 5, int(rng.integers(0, 4)))), one_of(rng, ["f4", "f8"])
        array = rng.standard_normal(shape).astype(dtype)
        header[f"w{k}"] = {"dtype": f"F{8 * array.itemsize}", "shape": list(array.shape),
                           "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    kind = rng.integers(8)
    if kind == 0:
        junk = [*JUNK, "BF16", "I64", "F8_E4M3", "BOOL", [2**40], [0, 2**63]]
        header = shaken(rng, header, lambda: one_of(rng, junk), 0.4)
    text = json.dumps(header).encode()
    if kind == 1:
        text = damaged(rng, text)
    elif kind == 2:
        text = hostile_json(rng, text)
    elif kind == 3:
        n = one_of(rng, [10, 1000, 1000, 30_000])
        text = b"{" + b",".join(b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % k for k in range(n)) + b"}"
        data = b""
    elif kind == 4 and text.count(b'"w') > 1:
        text = text.replace(b'"w1"', b'"w0"')
    length = one_of(rng, NUMBERS) if rng.random() < 0.1 else len(text)
    content = length.to_bytes(9, "little")[:8] + text + data
    return damaged(rng, content) if rng.random() < 0.4 else content


def read_safetensors(path: Path) -> None:
    arrays = load_safetensors(path)
    content = path.read_bytes()
    n = int.from_bytes(content[:8], "little")
    header = json.loads(content[8:8 + n])
    header.pop("__metadata__", None)
    if header.keys() != arrays.keys():
        raise Wrong("the names are not those of the file")
    for name, array in arrays.items():
        start, end = header[name]["data_offsets"]
        if list(array.shape) != header[name]["shape"] or array.tobytes() != content[8 + n + start:8 + n + end]:
            raise Wrong(f"{name} is not what the file holds")


# ------------------------------------------------------------------------------------------------------------
# The folder of a run
# ------------------------------------------------------------------------------------------------------------

SMALL = Settings(source="python-reference", hidden=4, batch=2, time=5, steps=4, dropout=0.1, cell="gru",
                 embedding=3, schedule="exponential")
VOCABULARY = Vocabulary.from_text("abc def\n")
IDS = VOCABULARY.encode("abc def\n" * 20)


def junk_or_array(rng: Rng) -> Any:
    """What a checkpoint can hold: plain junk, or an array that does not fit."""
    if rng.random() < 0.4:
        shape = one_of(rng, [(), (0,), (1,), (4,), (4, 12), (3, 12), (8,), (2, 4), (1, 1, 1)])
        return np.full(shape, one_of(rng, [0, 1, np.nan, np.inf]), one_of(rng, ["f4", "f8", "f2"]))
    return one_of(rng, [j for j in JUNK if not isinstance(j, dict)])


def trained(steps: int = 2) -> Any:
    trainer = make_trainer(SMALL, make_model(SMALL, len(VOCABULARY)), IDS, IDS[:30])
    for _ in range(steps):
        trainer.step()
    return trainer


_TREE: list[Any] = []
_TRAINER: list[Any] = []


def run_tree() -> Any:
    """What the checkpoint of a run holds."""
    if not _TREE:
        _TREE.append({"settings": SMALL.to_json(), "vocabulary": VOCABULARY.to_json(),
                      "trainer": trained().state_dict(), "seconds": 1.5, "threads": None,
                      "sampling": np.random.default_rng(0).bit_generator.state,
                      "sizes": {"metrics.jsonl": 0, "samples.txt": 0}})
    return _TREE[0]


def make_run(rng: Rng) -> bytes:
    """A whole checkpoint whose content is not that of a run, or not quite."""
    tree = shaken(rng, run_tree(), lambda: junk_or_array(rng), float(rng.choice([0.01, 0.03, 0.1])))
    try:
        return saved_bytes(tree)
    except (ValueError, TypeError):  # junk that cannot be saved
        return saved_bytes(None)


def read_run(path: Path) -> None:
    saved = load_saved(path, lambda text: None)
    model = saved.model()
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.loss(np.zeros((1, 2), int), np.zeros((1, 2), int))


def resume_run(path: Path) -> None:
    """Go on from it: either everything is put back or nothing has changed."""
    saved = load_saved(path, lambda text: None, best=False)
    if not _TRAINER:
        _TRAINER.append(trained(1))
    trainer = _TRAINER[0]
    before = saved_bytes(trainer.state_dict())
    recorder = Recorder(RunFolder(path.parent), SMALL, VOCABULARY,
                        Progress(make_plan(SMALL, 10), "char", stream=io.StringIO()))
    try:
        recorder.resume(saved, trainer)
    except RunError:
        if saved_bytes(trainer.state_dict()) != before:
            raise Wrong("a training that could not go on was changed") from None
        raise


def make_config(rng: Rng) -> bytes:
    good = {"settings": SMALL.to_json()}
    kind = rng.integers(4)
    tree = shaken(rng, good, lambda: one_of(rng, JUNK), 0.1) if kind == 0 else good
    text = json.dumps(tree, indent=2).encode()
    if kind == 1:
        return hostile_json(rng, text)
    return damaged(rng, text) if kind == 2 else text


def read_config(path: Path) -> None:
    path.rename(path.with_name("config.json"))
    settings = RunFolder(path.parent).settings().to_json()
    given = json.loads(path.with_name("config.json").read_text(encoding="utf-8"))["settings"]
    if any(settings[k] != v for k, v in given.items()):
        raise Wrong("the settings are not those of the file")


def make_metrics(rng: Rng) -> bytes:
    lines = [json.dumps({"step": k, "loss": 1.0 / k, "valid": 1.0}).encode() for k in range(1, int(rng.integers(1, 9)))]
    for _ in range(int(rng.integers(1, 3))):
        bad = one_of(rng, [json.dumps(shaken(rng, {"step": 1, "loss": 2.0}, lambda: one_of(rng, JUNK), 0.9)).encode(),
                           hostile_json(rng, b'{"step": 1, "loss": 2.0}'), b'{"step": 3', b"", b"\xff\xff"])
        lines.insert(int(rng.integers(len(lines) + 1)), bad)
    content = b"\n".join(lines) + b"\n"
    return damaged(rng, content) if rng.random() < 0.3 else content


def read_metrics(path: Path) -> None:
    path.rename(path.with_name("metrics.jsonl"))
    records = RunFolder(path.parent).records()
    if any(not isinstance(r["step"], int) for r in records):
        raise Wrong("a line that is none was read")
    plot_loss(records, ax=_Axes())


class _Axes:
    """Takes whatever is drawn on it, and looks at the numbers."""

    def plot(self, steps: Any, values: Any, **style: Any) -> None:
        np.asarray(steps, float), np.asarray(values, float)

    def __getattr__(self, name: str) -> Any:
        return _Axes()

    def __getitem__(self, name: Any) -> Any:
        return _Axes()

    def __call__(self, *args: Any, **more: Any) -> Any:
        return [[]]


# ------------------------------------------------------------------------------------------------------------
# Trying
# ------------------------------------------------------------------------------------------------------------

#: kind → (how often, makes a file, reads it, the errors that are documented for it)
KINDS: dict[str, tuple[int, Callable[[Rng], bytes], Callable[[Path], None], tuple[type[Exception], ...]]] = {
    "checkpoint": (50, make_checkpoint, read_checkpoint, (CheckpointError,)),
    "safetensors": (15, make_safetensors, read_safetensors, (ValueError,)),
    "run": (10, make_run, read_run, (RunError,)),
    "resume": (10, make_run, resume_run, (RunError,)),
    "config.json": (10, make_config, read_config, (RunError,)),
    "metrics.jsonl": (5, make_metrics, read_metrics, ()),
}


def choose(seed: int, number: int) -> tuple[str, bytes]:
    """The kind and the content of the file of this seed and number."""
    rng = np.random.default_rng([seed, number])
    often = np.array([k[0] for k in KINDS.values()], float)
    kind = list(KINDS)[int(rng.choice(len(KINDS), p=often / often.sum()))]
    return kind, KINDS[kind][1](rng)


def attempt(kind: str, content: bytes, folder: str) -> str:
    """Load a file from an empty folder; what came of it: "error" or "loaded". Raises Wrong for anything else."""
    _, _, read, documented = KINDS[kind]
    try:
        path = Path(folder, "file")
        path.write_bytes(content)
        tracemalloc.start()
        started = time.process_time()
        try:
            read(path)
            outcome = "loaded"
        except documented as error:
            outcome = "error"
            if "\n" in str(error) or not str(error):
                raise Wrong(f"the message is not one line: {error!r}") from error
        except Wrong:
            raise
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            raise Wrong(f"{type(error).__name__}: {error}") from error
        used = tracemalloc.get_traced_memory()[1]
        if used > 2 * len(content) + ALLOWANCE:
            raise Wrong(f"it took {used / 2**20:.1f} MiB for a file of {len(content) / 2**20:.1f}")
        if time.process_time() - started > SECONDS:
            raise Wrong(f"it took {time.process_time() - started:.0f} seconds")
        if sorted(os.listdir(folder)) not in (["file"], ["config.json"], ["metrics.jsonl"]):
            raise Wrong(f"there are other files now: {os.listdir(folder)}")
    finally:
        tracemalloc.stop()
        for left in os.listdir(folder):
            os.unlink(os.path.join(folder, left))
    return outcome


def main() -> int:
    """The command; exit status 1 if some file was not dealt with as it should be."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=1000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", type=int, help="try this file alone")
    options.add_argument("--kind", choices=list(KINDS), help="only files of this kind")
    options.add_argument("--keep", metavar="FILE", help="where to put the file of --only")
    a = options.parse_args()
    with suppress(ImportError, ValueError, OSError):  # what is taken beside Python's memory has a bound too
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, resource.getrlimit(resource.RLIMIT_AS)[1]))
    if hasattr(signal, "SIGALRM"):

        def hang(*_: Any) -> None:
            raise Wrong("it hangs")

        signal.signal(signal.SIGALRM, hang)
    outcomes, failed = Counter[str](), 0
    warnings.simplefilter("ignore")
    run_tree()
    folder = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    for number in range(a.count) if a.only is None else [a.only]:
        kind, content = choose(a.seed, number)
        if a.kind not in (None, kind):
            continue
        if a.keep is not None and a.only is not None:
            Path(a.keep).write_bytes(content)
        try:
            if hasattr(signal, "SIGALRM"):
                signal.alarm(3 * SECONDS)
            outcomes[f"{kind}: {attempt(kind, content, folder)}"] += 1
        except Wrong as error:
            failed += 1
            print(f"file {number} of seed {a.seed} ({kind}, {len(content)} bytes): {error}", file=sys.stderr)
        finally:
            if hasattr(signal, "SIGALRM"):
                signal.alarm(0)
    os.rmdir(folder)
    print(f"{sum(outcomes.values()) + failed} files of seed {a.seed}, {failed} not dealt with as they should be")
    for name in sorted(outcomes):
        print(f"  {name:24} {outcomes[name]:6}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

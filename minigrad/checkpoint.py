"""Checkpoints: a tree of arrays and plain values in one file that is either whole or not there.

    mg.save("run/checkpoint.npz", {"model": model.state_dict(), "optimiser": optimiser.state_dict(),
                                   "rng": rng, "step": 1000})
    state = mg.load("run/checkpoint.npz")

The file is a zip archive of `.npy` members, stored as they are, which `np.load` reads too; the structure is
JSON in a member of its own. Nothing in it is code: there is no pickle. A file is written beside its place and
then renamed, so a crash leaves the old one; its last 64 bytes are the SHA-256 of the rest, so any flipped bit
is noticed.

A loaded file is not trusted. The digest, the number of members, their names, sizes and storage, and each
header are checked before the memory for an array is asked for; the JSON is short, and holds few values, beside
the arrays. So loading takes less memory than twice the file's length, plus a few megabytes.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
import math
import os
import re
import secrets
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from .tensor import Tensor

Array = NDArray[Any]
StrPath = str | os.PathLike[str]

FORMAT = "minigrad checkpoint"
VERSION = 1
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""From the metadata of a version to that of the next, for files that an earlier release wrote."""

METADATA = "metadata.json"
METADATA_LIMIT = 2**21  # bytes of JSON, and one more for every 16 bytes of arrays
ITEM_LIMIT = 2**16  # values in the JSON, and one more for every 256 bytes of arrays
MEMBER_LIMIT = 20_000
DEPTH_LIMIT = 100
DIGEST = 64  # hexadecimal digits at the end of the file
DTYPES = frozenset(["|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"])
CHUNK = 2**20


class CheckpointError(ValueError):
    """A checkpoint could not be written or is not usable. The message is one line."""


# ------------------------------------------------------------------------------------------------------------
# Saving
# ------------------------------------------------------------------------------------------------------------


def save(path: StrPath, tree: Any) -> None:
    """Write `tree` to `path`, replacing the file in one step.

    Args:
        path: the file; its folder must exist.
        tree: dicts (with str or int keys), lists and tuples of arrays, Tensors, Generators, ints, floats,
            strings, bools and None. Named tuples are saved as tuples, Tensors as arrays, Generators as their
            `bit_generator.state`, NumPy's scalars as 0-d arrays. Arrays are of bools, integers or floats of
            up to eight bytes.

    Raises:
        TypeError, ValueError: something in the tree cannot be saved; the message says where it is.
        CheckpointError: the file could not be written. A file that was there is left as it was.
    """
    arrays: list[Array] = []
    metadata = json.dumps({"format": FORMAT, "version": VERSION, "tree": _encode(tree, arrays, "tree", 0)},
                          allow_nan=False).encode()
    longest, most = _metadata_limits(sum(a.nbytes for a in arrays))
    if len(metadata) > longest:
        raise ValueError(f"a checkpoint holds at most {longest} bytes beside its arrays, this has "
                         f"{len(metadata)}; put long lists into arrays.")
    if _items(metadata) > most:
        raise ValueError(f"a checkpoint holds at most {most} values beside its arrays; put long lists into arrays.")
    if len(arrays) > MEMBER_LIMIT:
        raise ValueError(f"a checkpoint holds at most {MEMBER_LIMIT} arrays, this has {len(arrays)}.")
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f".minigrad-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "x+b") as file:
            _write(file, metadata, arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _sync_folder(folder)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, Exception):
            raise CheckpointError(f"could not write {os.fspath(path)}: {_reason(error)}") from error
        raise


def _write(file: IO[bytes], metadata: bytes, arrays: list[Array]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = b"0" * DIGEST
        archive.writestr(zipfile.ZipInfo(METADATA), metadata)
        for k, array in enumerate(arrays):
            with archive.open(zipfile.ZipInfo(f"{k}.npy"), "w", force_zip64=array.nbytes > 2**30) as member:
                npy.write_array(member, array, version=(1, 0), allow_pickle=False)
    size = file.seek(0, os.SEEK_END) - DIGEST
    digest, _ = _digest(file, size)
    file.seek(size)
    file.write(digest)


def _sync_folder(folder: str) -> None:
    """Make the renaming last, on systems that can."""
    with suppress(OSError):  # Windows, some network file systems
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _encode(tree: Any, arrays: list[Array], where: str, depth: int) -> Any:
    """The tree as JSON: an object with one key says what it is, anything else is itself."""
    if depth > DEPTH_LIMIT:
        raise ValueError(f"the tree is deeper than {DEPTH_LIMIT}, or holds itself: {where[:60]}…")
    if isinstance(tree, np.random.Generator):
        tree = tree.bit_generator.state
    if isinstance(tree, Tensor):
        tree = tree.data
    if isinstance(tree, (np.ndarray, np.generic)) and not isinstance(tree, (float, str)):  # np.float64, .str_
        arrays.append(_plain(tree, where))
        return {"array": len(arrays) - 1}
    if tree is None or isinstance(tree, (bool, str)):
        return tree
    if isinstance(tree, int):
        return int(tree) if abs(tree) < 2**256 else {"int": hex(tree)}
    if isinstance(tree, float):
        return float(tree) if math.isfinite(tree) else {"float": str(tree)}
    if isinstance(tree, dict):
        for key in tree:
            if isinstance(key, bool) or not isinstance(key, (str, int)):
                raise TypeError(f"{where}: a checkpoint's dicts have str or int keys, not {key!r}.")
        return {"dict": [[_encode(k, arrays, where, depth), _encode(v, arrays, f"{where}[{k!r}]", depth + 1)]
                         for k, v in tree.items()]}
    if isinstance(tree, (list, tuple)):
        items = [_encode(item, arrays, f"{where}[{k}]", depth + 1) for k, item in enumerate(tree)]
        return items if isinstance(tree, list) else {"tuple": items}
    raise TypeError(f"{where}: a checkpoint cannot hold {type(tree).__name__}; it takes dicts, lists, "
                    "tuples, arrays, Tensors, Generators, numbers, strings, bools and None.")


def _plain(array: Any, where: str) -> Array:
    """In C order and little-endian, of a dtype that a checkpoint may have."""
    if isinstance(array, np.ndarray) and type(array) not in (np.ndarray, np.memmap):
        raise TypeError(f"{where}: a checkpoint holds plain arrays, not {type(array).__name__}.")
    dtype = array.dtype.newbyteorder("<")
    if dtype.str not in DTYPES:
        raise TypeError(f"{where}: a checkpoint holds bools, integers and floats of up to 8 bytes, not "
                        f"{array.dtype}.")
    return np.asarray(array, dtype=dtype, order="C")


# ------------------------------------------------------------------------------------------------------------
# Loading
# ------------------------------------------------------------------------------------------------------------


def load(path: StrPath) -> Any:
    """The tree that `save` wrote to `path`, with arrays for Tensors, and for a Generator the dict to set as
    its `bit_generator.state`.

    Raises:
        CheckpointError: there is no such file, or it is damaged, of another kind, or of a later version.
    """
    try:
        if not os.path.isfile(path):
            raise CheckpointError("there is no such file")
        with open(path, "rb") as file:
            return _read(file)
    except Exception as error:  # whatever a hostile file may provoke
        raise CheckpointError(f"cannot load {os.fspath(path)}: {_reason(error)}") from error


def _read(file: IO[bytes]) -> Any:
    size = file.seek(0, os.SEEK_END)
    digest, entries = _digest(file, size - DIGEST)
    if file.read(DIGEST) != digest:
        raise CheckpointError("it is truncated or damaged, or no checkpoint (the SHA-256 at its end is not "
                              "that of the rest)")
    if entries > MEMBER_LIMIT + 1000:  # some may be chance
        raise CheckpointError("it has too many members")
    longest, _ = _metadata_limits(size)
    bounded = cast(IO[bytes], _Bounded(file, max(CHUNK, longest, 128 * entries)))
    with zipfile.ZipFile(bounded) as archive:
        members = archive.infolist()
        if [m.filename for m in members] != [METADATA] + [f"{k}.npy" for k in range(len(members) - 1)]:
            raise CheckpointError("its members are not those of a checkpoint")
        if any(m.compress_type != zipfile.ZIP_STORED or m.compress_size != m.file_size for m in members):
            raise CheckpointError("its members are not stored as they are")
        longest, most = _metadata_limits(size - members[0].file_size)
        if sum(m.file_size for m in members) > size or members[0].file_size > longest:
            raise CheckpointError("its members claim to be larger than they can be")
        text = archive.read(members[0])
        if not text.isascii() or _items(text) > most:
            raise CheckpointError("its metadata are not plain ASCII, or hold too many values")
        metadata = _migrated(json.loads(text, parse_constant=_refuse))
        del text
        arrays = [_read_array(archive, m) for m in members[1:]]
    used: set[int] = set()
    tree = _decode(metadata["tree"], arrays, used, 0)
    if len(used) != len(arrays):
        raise CheckpointError("its metadata leave out some of its arrays")
    return tree


def _metadata_limits(beside: int) -> tuple[int, int]:
    """How many bytes of JSON, and how many values in them, there may be beside so many bytes of arrays.

    A value in JSON takes a few bytes in the file and up to a hundred in memory.
    """
    return METADATA_LIMIT + beside // 16, ITEM_LIMIT + beside // 256


def _items(metadata: bytes) -> int:
    """At least as many as there are values in the JSON."""
    return sum(map(metadata.count, (b",", b"[", b"{", b":")))


class _Bounded:
    """A file that is never read in pieces of more than `most` bytes, whatever an archive's directory claims."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._most = most
        self._read = file.read
        self.seek, self.tell, self.seekable, self.close = file.seek, file.tell, file.seekable, file.close

    def read(self, size: int = -1) -> bytes:
        if size > self._most:
            raise CheckpointError("its list of members claims to be larger than it can be")
        return self._read(size)


def _migrated(metadata: Any) -> dict[str, Any]:
    """The metadata as the present version writes them."""
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise CheckpointError("its metadata are not those of a checkpoint")
    current: dict[str, Any] = metadata
    version = metadata.get("version")
    if type(version) is not int or version < 1:
        raise CheckpointError(f"its version is {version!r}")
    if version > VERSION:
        raise CheckpointError(f"it was written by a later release (format version {version}; this one reads "
                              f"up to {VERSION})")
    for v in range(version, VERSION):
        current = MIGRATIONS[v](current)
    if "tree" not in current:
        raise CheckpointError("its metadata have no tree")
    return current


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    """One member as an array, its header believed only as far as it agrees with the member's size."""
    with archive.open(member) as file:
        if npy.read_magic(file) != (1, 0):
            raise CheckpointError(f"{member.filename} has a header of another version")
        shape, fortran_order, dtype = npy.read_array_header_1_0(file, max_header_size=2000)
        if dtype.str not in DTYPES or fortran_order:
            raise CheckpointError(f"{member.filename} is of a kind that no checkpoint has")
        if any(type(n) is not int or n < 0 for n in shape):
            raise CheckpointError(f"{member.filename} has the shape {shape}")
        if math.prod(shape) * dtype.itemsize != member.file_size - file.tell():
            raise CheckpointError(f"{member.filename} claims another size than it has")
        array = np.empty(shape, dtype)
        into = array.reshape(-1).view(np.uint8)
        for start in range(0, array.nbytes, CHUNK):
            chunk = into[start:start + CHUNK].data
            if cast(io.BufferedIOBase, file).readinto(chunk) != len(chunk):
                raise CheckpointError(f"{member.filename} is truncated")
        if file.read(1):  # reads to the end, where the checksum is compared
            raise CheckpointError(f"{member.filename} is longer than it claims")
    if dtype.kind == "b" and array.nbytes and into.max() > 1:
        raise CheckpointError(f"{member.filename} holds bools that are neither true nor false")
    return array


def _decode(tree: Any, arrays: list[Array], used: set[int], depth: int) -> Any:
    """What `_encode` made JSON of."""
    if depth > DEPTH_LIMIT:
        raise CheckpointError(f"its tree is deeper than {DEPTH_LIMIT}")
    if isinstance(tree, list):
        return [_decode(item, arrays, used, depth + 1) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if len(tree) != 1:
        raise CheckpointError("its tree has an object with other than one key")
    ((kind, value),) = tree.items()
    if kind == "array" and type(value) is int and 0 <= value < len(arrays) and value not in used:
        used.add(value)
        return arrays[value]
    if kind == "tuple" and isinstance(value, list):
        return tuple([_decode(item, arrays, used, depth + 1) for item in value])
    if kind == "dict" and isinstance(value, list) and all(isinstance(p, list) and len(p) == 2 for p in value):
        pairs = [(_decode(k, arrays, used, depth), _decode(v, arrays, used, depth + 1)) for k, v in value]
        if all(type(key) in (str, int) for key, _ in pairs) and len(dict(pairs)) == len(pairs):
            return dict(pairs)
    if kind == "int" and isinstance(value, str) and re.fullmatch("-?0x[0-9a-f]+", value):
        return int(value, 16)
    if kind == "float" and value in ("nan", "inf", "-inf"):
        return float(value)
    raise CheckpointError(f"its tree has a {kind!r} that no checkpoint has")


def _refuse(constant: str) -> Any:
    raise CheckpointError(f"its metadata hold {constant}, which is not JSON")


def _digest(file: IO[bytes], size: int) -> tuple[bytes, int]:
    """SHA-256 of the first `size` bytes, and how often they hold the mark of a member's entry; leaves off
    there."""
    digest, entries = hashlib.sha256(), 0
    file.seek(0)
    while size > 0 and (chunk := file.read(min(size, CHUNK))):
        digest.update(chunk)
        entries += chunk.count(b"PK\x01\x02")
        size -= len(chunk)
    return digest.hexdigest().encode(), entries


def _reason(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, CheckpointError):
        return str(error)
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(f"{type(error).__name__}: {text}".split())[:300]


# ------------------------------------------------------------------------------------------------------------
# A folder of checkpoints
# ------------------------------------------------------------------------------------------------------------


def save_rotating(folder: StrPath, step: int, tree: Any, keep: int = 3, prefix: str = "checkpoint") -> Path:
    """Save to `folder/prefix-<step>.npz` and then delete all but the newest `keep` of these.

    The folder is made if need be. What an interrupted earlier save left there is cleared away, so only one
    process at a time may save to a folder.

    Returns:
        The path.

    Raises:
        TypeError, ValueError, CheckpointError: as `save`; nothing is deleted then.
    """
    if keep < 1 or step < 0:
        raise ValueError(f"keep is at least 1 and step at least 0, got {keep} and {step}.")
    folder = Path(folder)
    path = folder / f"{prefix}-{step:08d}.npz"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"could not write {path}: {_reason(error)}") from error
    save(path, tree)
    ours = re.compile(re.escape(prefix) + r"-\d+\.npz")
    old = [p for p in _newest_first(folder, f"{glob.escape(prefix)}-*.npz")
           if ours.fullmatch(p.name) and p != path]
    for p in old[keep - 1:] + list(folder.glob(".minigrad-*.tmp")):
        with suppress(OSError):
            p.unlink()
    return path


def latest(folder: StrPath, pattern: str = "checkpoint-*.npz") -> tuple[Path, Any] | None:
    """The newest checkpoint in `folder` that is whole, and its tree; None if there is none.

    Newest by the time of writing, then by the number in the name. Each one that is skipped gives a warning.
    """
    for path in _newest_first(Path(folder), pattern):
        try:
            return path, load(path)
        except CheckpointError as error:
            warnings.warn(f"skipped a checkpoint: {error}", RuntimeWarning, stacklevel=2)
    return None


def _newest_first(folder: Path, pattern: str) -> list[Path]:
    def age(path: Path) -> tuple[int, int, str]:
        numbers = re.findall(r"\d+", path.stem)
        return path.stat().st_mtime_ns, int(numbers[-1][-18:]) if numbers else -1, path.name

    return sorted((p for p in folder.glob(pattern) if p.is_file()), key=age, reverse=True)

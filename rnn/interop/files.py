"""Arrays in safetensors files, which many libraries read: no code in them, and nothing but names, shapes and
numbers."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from .arrays import Arrays, as_array

StrPath = str | os.PathLike[str]
HEADER_LIMIT = 2**21  # bytes, and one more for every 16 bytes of the file
ARRAY_LIMIT = 20_000


def save_safetensors(path: StrPath, arrays: Mapping[str, Any]) -> None:
    """Write named arrays to a file, read it back, compare, and only then put it in place.

        save_safetensors("lstm.safetensors", to_torch(layer))

    Args:
        path: the file; one that is there is replaced.
        arrays: name → array, Tensor or torch tensor. They are written in C order and little-endian.

    Raises:
        ImportError: safetensors is not installed.
        TypeError: a name is no str, or an array of a dtype that such files do not have.
        OSError: the file cannot be written, or reads back as something else.
    """
    library = _library()
    plain = {}
    for name, value in arrays.items():
        array = as_array(value)
        if not isinstance(name, str):
            raise TypeError(f"names in a safetensors file are str, not {name!r}.")
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise TypeError(f"{name!r} has dtype {array.dtype}; a safetensors file holds bools, integers and "
                            "floats of up to 8 bytes.")
        plain[name] = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    temporary = f"{os.fspath(path)}.{secrets.token_hex(4)}.tmp"
    try:
        library.save_file(plain, temporary)
        back = library.load_file(temporary)
        for name, array in plain.items():
            if back[name].shape != array.shape or back[name].tobytes() != array.tobytes():
                raise OSError(f"{name!r} reads back as something else from {os.fspath(path)}.")
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def load_safetensors(path: StrPath) -> Arrays:
    """The named arrays in a file.

        load_torch(layer, load_safetensors("lstm.safetensors"))

    Raises:
        ImportError: safetensors is not installed.
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or no such file.
    """
    library = _library()
    try:
        _check_header(path)
        return dict(library.load_file(path))
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"cannot read {os.fspath(path)} as a safetensors file: {error}") from error


def _check_header(path: StrPath) -> None:
    """Raises ValueError where the list of arrays takes far more memory than the file is long."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise ValueError("its header is longer than the file")
        if length > HEADER_LIMIT + size // 16 or file.read(length).count(b"{") > ARRAY_LIMIT:
            raise ValueError("its header is too long, or lists too many arrays")


def _library() -> Any:
    try:
        from safetensors import numpy
    except ImportError as error:
        raise ImportError("safetensors files need the package safetensors: "
                          "pip install 'minigrad-rnn[interop]'") from error
    return numpy

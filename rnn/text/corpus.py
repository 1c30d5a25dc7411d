"""Corpora: a file, a folder, standard input, or one of those that come with every Python."""

from __future__ import annotations

import codecs
import importlib
import io
import os
import sys
import sysconfig
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import BinaryIO

from .checks import TextError, check_choice, checked_whole, printable
from .vocabulary import LEVELS, NORMAL_FORMS, Level, NormalForm

MAX_CHARACTERS = 500_000_000  # what is read at most when no limit is given: an endless pipe ends here
SOURCE_CHARACTERS = 1_000_000  # what "python-source" gives when no limit is given
MAX_FILES = 150_000  # files and folders that are gone through at most: "/" is refused within seconds
CHUNK = 1 << 20  # bytes read at a time


@dataclass(frozen=True)
class Corpus:
    """A text that was read, where it came from, and a line for each thing that was left out of it."""

    name: str
    text: str = field(repr=False)
    notes: tuple[str, ...] = ()


def read_corpus(
    source: str | os.PathLike[str] = "python-reference",
    *,
    level: Level = "char",
    pattern: str = "*.txt",
    encoding: str = "utf-8",
    normalize: NormalForm | None = None,
    limit: int | None = None,
    skip: Callable[[Path], bool] | None = None,
) -> Corpus:
    """Read the text of a file, of a folder's files, of standard input, or of an embedded corpus.

    source     a file; a folder, whose files that match `pattern`, at any depth, are joined in the order of
               their paths (hidden ones and links to folders are passed over; a folder with more than
               `MAX_FILES` is refused); "-", standard input; or, as str, one of `EMBEDDED`:
               "python-reference", the language reference inside every Python, or "python-source", the
               standard library, of which the first million characters are read if there is no `limit`.
               (A file of such a name is "./python-source".)
    level      at "byte" a file is taken as it is; else a byte order mark is dropped, "\\r\\n" and "\\r"
               become "\\n", and the text has to be valid in `encoding`, without NUL characters.
    normalize  the Unicode normal form the text is brought to, or None to leave it.
    skip       files of a folder to pass over, as if they were hidden.
    limit      how many characters (at level byte: bytes) are taken; the rest of a large file stays unread.
               Without a limit a text of more than `MAX_CHARACTERS` is refused.

    A file of a folder that cannot be read is passed over, with a line in `Corpus.notes`.
    Raises TextError for what gives no text: missing, unreadable, empty, binary, not in the encoding.
    """
    check_choice("level", level, LEVELS)
    if normalize is not None:
        check_choice("normalize", normalize, NORMAL_FORMS)
    if limit is not None:
        limit = checked_whole("limit", limit, 1)
    embedded = isinstance(source, str) and source in EMBEDDED
    most = limit or (SOURCE_CHARACTERS if embedded else MAX_CHARACTERS)
    reader = _Reader(level, encoding, most, skip)

    name = os.fspath(source)
    shown = printable(name)
    if embedded:
        text = EMBEDDED[name](reader)
    elif source == "-":
        shown = "standard input"
        text = reader.standard_input()
    elif os.path.isdir(name):
        text = reader.folder(Path(name), pattern)
    else:
        text = reader.file(name)

    if not text:
        raise TextError(f"{shown} is empty: give a text to learn from")
    if len(text) > most:
        if limit is None and not embedded:
            raise TextError(f"{shown} has more than {most:,} characters: say how many to read (--limit)")
        reader.notes.append(f"read the first {most:,} characters of {shown}")
        text = text[:most]
    if level == "byte":
        text = text.encode("latin-1").decode("utf-8", "surrogateescape")
    if normalize is not None:
        text = unicodedata.normalize(normalize, text)
    return Corpus(shown, text, tuple(reader.notes))


class _Reader:
    """Makes str of bytes: of characters in the encoding or, at byte level, one character `chr(byte)` a byte.

    It stops at the first chunk beyond `most` characters: who calls sees that there was more, and cuts.
    """

    def __init__(
        self, level: Level, encoding: str, most: int, skip: Callable[[Path], bool] | None = None
    ) -> None:
        self.raw = level == "byte"
        self.codec = _codec(encoding)
        if self.raw and self.codec != "utf-8":
            raise TextError(f"level byte reads bytes as they are: leave out the encoding {encoding!r}")
        self.most = most
        self.skip = skip
        self.notes: list[str] = []

    def stream(self, stream: BinaryIO, name: str, already: int = 0) -> str:
        """The text of an open binary file, when `already` characters of those wanted were read elsewhere."""
        decoder = codecs.getincrementaldecoder("latin-1" if self.raw else self.codec)()
        newlines = io.IncrementalNewlineDecoder(None, translate=not self.raw)
        pieces: list[str] = []
        characters, octets, more = already, 0, True
        while more and characters <= self.most:
            chunk = stream.read(CHUNK)
            more = bool(chunk)
            octets += len(chunk)
            try:
                piece = newlines.decode(decoder.decode(chunk, not more), not more)
            except UnicodeError as error:
                raise self._cannot_decode(name, chunk, octets, error) from None
            if not self.raw:
                if "\0" in piece:
                    raise self._binary(name)
                if characters == already:
                    piece = piece.removeprefix("\ufeff")
            pieces.append(piece)
            characters += len(piece)
        return "".join(pieces)

    def file(self, path: str | Path, already: int = 0) -> str:
        name = printable(os.fspath(path))
        try:
            with open(path, "rb") as stream:
                return self.stream(stream, name, already)
        except TextError:
            raise
        except FileNotFoundError:
            others = ", ".join(["- (standard input)", *EMBEDDED])
            raise TextError(f"there is no {name}: give a file, a folder, or one of {others}") from None
        except (OSError, ValueError) as error:
            raise TextError(f"cannot read {name}: {_reason(error)}") from None

    def standard_input(self) -> str:
        stream = getattr(sys.stdin, "buffer", None)
        if stream is None or stream.closed:
            raise TextError("standard input is closed: pipe a text into it, or give a file")
        try:
            return self.stream(stream, "standard input")
        except OSError as error:
            raise TextError(f"cannot read standard input: {_reason(error)}") from None

    def folder(self, folder: Path, pattern: str) -> str:
        """The files of a folder, in the order of their paths; those that cannot be read are noted."""
        name = printable(str(folder))
        wanted = PurePath(pattern)
        if not wanted.parts or wanted.anchor:
            raise TextError(f"cannot search {name} for {pattern!r} (--pattern): give one such as '*.txt' or 'a/*.md'")
        paths = sorted(self._matching(folder, ("**", *wanted.parts)), key=Path.as_posix)
        if self.skip is not None:
            paths = [p for p in paths if not self.skip(p)]
        if not paths:
            raise TextError(f"no file in {name} that is not hidden matches {pattern!r} (--pattern)")
        text = self.files(paths)
        if not text and self.notes:
            raise TextError(f"no file in {name} that matches {pattern!r} gives a text; {self.notes[0]}")
        return text

    def _matching(self, folder: Path, pattern: Sequence[str]) -> Iterator[Path]:
        """The files in a folder, at any depth, that are not hidden and match. Raises TextError where it is huge."""
        seen = 0
        for inside, folders, files in os.walk(folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            seen += len(folders) + len(files)
            if seen > MAX_FILES:
                raise TextError(f"{printable(str(folder))} has more than {MAX_FILES:,} files and folders in it: "
                                "give a smaller folder, or a single file")
            above = Path(inside).relative_to(folder).parts
            for name in files:
                if not name.startswith(".") and _matches((*above, name), pattern):
                    path = Path(inside, name)
                    if path.is_file():
                        yield path

    def files(self, paths: Iterable[Path]) -> str:
        """The texts of files in one; each begins on a line of its own, except at byte level."""
        pieces: list[str] = []
        characters = 0
        for path in paths:
            if characters > self.most:
                break
            try:
                piece = self.file(path, characters)
            except TextError as error:
                self.notes.append(f"skipped: {error}")
                continue
            if piece and not piece.endswith("\n") and not self.raw:
                piece += "\n"
            pieces.append(piece)
            characters += len(piece)
        return "".join(pieces)

    def _cannot_decode(self, name: str, chunk: bytes, octets: int, error: UnicodeError) -> TextError:
        """The error for a chunk that is not in the encoding, when `octets` bytes were read with it."""
        if b"\0" in chunk and not self.codec.startswith(("utf-16", "utf-32")):
            return self._binary(name)
        what = str(error)
        if isinstance(error, UnicodeDecodeError):  # it counts from the first byte not yet decoded
            what = f"{error.reason} at byte {octets - len(error.object) + error.start:,}"
        return TextError(
            f"{name} is not {self.codec}: {what}; "
            "give its encoding (--encoding, such as latin-1), or read it as bytes (--level byte)"
        )

    def _binary(self, name: str) -> TextError:
        return TextError(
            f"{name} is a binary file: it has NUL bytes; read it as bytes (--level byte), "
            "or give its encoding if it is text (--encoding, such as utf-16)"
        )


def _codec(encoding: str) -> str:
    """The proper name of a text encoding. Raises TextError where there is none."""
    try:
        name = codecs.lookup(encoding).name
        codecs.getincrementaldecoder(name)
        b"a".decode(name)  # refuses codecs that are not of text, such as "hex"
    except UnicodeError:
        pass  # a single byte is not yet a text in UTF-16
    except (LookupError, ValueError):
        some = "utf-8, utf-16, latin-1, euc-kr, cp932"
        raise TextError(f"there is no text encoding {encoding!r}: try one of {some}") from None
    return name


def _matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path match those of a pattern; "**" is any number of folders."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_matches(path[k:], pattern[1:]) for k in range(len(path) + 1))
    return bool(path) and fnmatch(path[0], pattern[0]) and _matches(path[1:], pattern[1:])


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _python_reference(reader: _Reader) -> str:
    """The language reference, topic after topic in alphabetic order, those that share paragraphs first.

    Some topics are chapters that contain others. With them in front, the end of the text, which is what is
    held out for validation, has no paragraph that the part before it has.
    """
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except (ImportError, AttributeError):
        raise TextError("this Python came without its reference (pydoc_data): give a text file") from None
    paragraphs = {topic: _paragraphs(text) for topic, text in topics.items()}
    owners = Counter(paragraph for found in paragraphs.values() for paragraph in found)
    order = sorted(topics, key=lambda topic: (all(owners[p] == 1 for p in paragraphs[topic]), topic))
    text = "\n".join(topics[topic] for topic in order)
    return text.encode().decode("latin-1") if reader.raw else text


def _python_source(reader: _Reader) -> str:
    """The modules of the standard library, in alphabetic order."""
    text = reader.files(sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")))
    if not text:
        raise TextError("this Python came without the source of its library: give a text file")
    return text


def _paragraphs(text: str) -> set[str]:
    """The paragraphs of more than a line, with single spaces."""
    return {p for p in (" ".join(lines.split()) for lines in text.split("\n\n")) if len(p) > 80}


EMBEDDED: dict[str, Callable[[_Reader], str]] = {
    "python-reference": _python_reference,
    "python-source": _python_source,
}

"""Text for a language model: corpora to read, vocabularies to number their symbols, batches to learn from.

The way of a text is `read_corpus` → `Vocabulary.from_text` → `encode` → `split` → `Batches` and `windows`:

    corpus = read_corpus("python-reference")
    vocabulary = Vocabulary.from_text(corpus.text)
    train, valid = split(vocabulary.encode(corpus.text), batch_size=32, time_steps=64)
    for inputs, targets, first in Batches(train, 32, 64): ...

A text is always a `str`, at byte level too: there, bytes that are not UTF-8 are carried as lone surrogates
(PEP 383, `errors="surrogateescape"`), and encoding them gives back exactly the bytes that were read. So no
function has a second form for bytes.

What a user may get wrong raises `TextError`, whose message is one line: what is wrong, and what to do.
"""

from __future__ import annotations

import codecs
import importlib
import io
import math
import os
import sys
import sysconfig
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

__all__ = [
    "EMBEDDED", "EOS", "LEVELS", "NORMAL_FORMS", "UNKNOWN",
    "Batches", "Corpus", "Decoder", "Level", "NormalForm", "TextError", "Vocabulary", "Window",
    "read_corpus", "split", "windows",
]  # fmt: skip

Ids: TypeAlias = npt.NDArray[np.int64]
Level: TypeAlias = Literal["char", "byte", "word"]
NormalForm: TypeAlias = Literal["NFC", "NFD", "NFKC", "NFKD"]

LEVELS: tuple[Level, ...] = get_args(Level)
NORMAL_FORMS: tuple[NormalForm, ...] = get_args(NormalForm)
EOS = "<eos>"  # the end of a line, at word level
UNKNOWN = {"char": "\N{REPLACEMENT CHARACTER}", "word": "<unk>"}  # what stands for symbols that were left out
BYTES = tuple(map(chr, range(256)))  # the symbols of the byte level: symbol and id of a byte are its value

MAX_CHARACTERS = 500_000_000  # what is read at most when no limit is given: an endless pipe ends here
SOURCE_CHARACTERS = 1_000_000  # what "python-source" gives when no limit is given
CHUNK = 1 << 20  # bytes read at a time
SHORTEN = "give more text, a smaller batch or fewer time steps"


class TextError(ValueError):
    """A mistake in what the user gave. The message is one line: what was wrong, and what to do."""


# ------------------------------------------------------------------------------------------------ vocabulary


@dataclass(frozen=True, repr=False)
class Vocabulary:
    """The symbols of a text in a fixed order: a symbol's id is its place in `symbols`.

    level    what a symbol is: "char", one code point; "byte", one byte of the text in UTF-8, written as
             `chr(byte)`; "word", what stands between white space, and `<eos>` for the end of a line.
    unknown  the symbol that takes the place of those that are not here, or None where such a one is an error.

    The order is the same in every run: characters by code point, bytes by value (always all 256, so that any
    text can be encoded), words by falling frequency and then by code point, after `<eos>` and `<unk>`.
    Raises TextError for symbols that are no str, doubled, or do not suit the level.
    """

    symbols: tuple[str, ...]
    level: Level = "char"
    unknown: str | None = None

    def __post_init__(self) -> None:
        symbols = self.symbols
        _choice("level", self.level, LEVELS)
        if not isinstance(symbols, tuple) or not all(isinstance(s, str) for s in symbols):
            raise TextError("the symbols of a vocabulary are a tuple of str")
        if not symbols:
            raise TextError("a vocabulary needs at least one symbol")
        if len(set(symbols)) < len(symbols):
            raise TextError(f"the vocabulary has {Counter(symbols).most_common(1)[0][0]!a} more than once")
        if self.level == "byte" and symbols != BYTES:
            raise TextError("a vocabulary of bytes has all 256, in order")
        if self.level == "char" and (long := [s for s in symbols if len(s) != 1]):
            raise TextError(f"a symbol of a vocabulary of characters is one character, not {long[0]!a}")
        if self.level == "word" and (split := [s for s in symbols if s.split() != [s]]):
            raise TextError(f"a word is not empty and has no white space, unlike {split[0]!a}")
        if self.level == "word" and EOS not in symbols:
            raise TextError(f"a vocabulary of words needs {EOS}, the end of a line")
        if self.unknown is not None and self.unknown not in symbols:
            raise TextError(f"the symbol for unknown ones, {self.unknown!a}, is not in the vocabulary")

    @classmethod
    def from_text(
        cls, text: str, level: Level = "char", *, min_count: int = 1, max_size: int | None = None
    ) -> Vocabulary:
        """The vocabulary of a text.

        Symbols met fewer than `min_count` times are left out, and so are the rarest where there are more than
        `max_size` in all. "\\ufffd" (characters) or `<unk>` (words) takes their place, one of the `max_size`.
        Where nothing is left out an unknown symbol stays an error, unless the text itself has the word
        `<unk>`, as the Penn Treebank has.

        Raises TextError for an empty text, one with a single distinct symbol, and impossible sizes.
        """
        _choice("level", level, LEVELS)
        min_count = _whole("min_count", min_count, 1)
        if max_size is not None:
            max_size = _whole("max_size", max_size, 2)
        counts = Counter(_tokens(text, level))
        if not counts:
            empty = "has no words" if level == "word" else "is empty"
            raise TextError(f"the text {empty}: there is nothing to learn from it")
        if len(counts) == 1:
            only = _describe(next(iter(counts)), level)
            raise TextError(f"the text is {only} over and over: give one with two different symbols or more")
        if level == "byte":
            if min_count > 1 or max_size is not None:
                raise TextError("level byte always has all 256 bytes: leave min_count and max_size out")
            return cls(BYTES, level)

        unk = UNKNOWN[level]
        fixed = [EOS] if level == "word" else []
        if level == "word" and unk in counts:
            fixed.append(unk)
        ranked = sorted(counts.keys() - fixed, key=lambda symbol: (-counts[symbol], symbol))
        kept = [symbol for symbol in ranked if counts[symbol] >= min_count]
        if len(kept) < len(ranked) or (max_size is not None and len(fixed) + len(kept) > max_size):
            if unk not in fixed:
                fixed.append(unk)
            kept = [symbol for symbol in kept if symbol != unk]
            if max_size is not None:
                kept = kept[: max(max_size - len(fixed), 0)]
            if not kept:
                raise TextError(
                    f"min_count {min_count:,} and max_size {max_size} leave no symbol of the text: "
                    "lower the one or raise the other"
                )
        symbols = sorted(fixed + kept) if level == "char" else fixed + kept
        return cls(tuple(symbols), level, unk if unk in fixed else None)

    def __len__(self) -> int:
        return len(self.symbols)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} symbols, level={self.level!r}, unknown={self.unknown!r})"

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: i for i, symbol in enumerate(self.symbols)}

    def encode(self, text: str) -> Ids:
        """The ids of a text: int64 of shape (symbols in the text,).

        Word level forgets how words were spaced: any run of white space without a newline is one gap.
        Raises TextError that names the symbols it does not know, if the vocabulary has none for them.
        """
        tokens = _tokens(text, self.level)
        ids = self._ids
        if self.unknown is not None:
            other = ids[self.unknown]
            return np.fromiter((ids.get(token, other) for token in tokens), np.int64, len(tokens))
        try:
            return np.fromiter(map(ids.__getitem__, tokens), np.int64, len(tokens))
        except KeyError:
            raise TextError(self._about_unknown(text, tokens)) from None

    def decode(self, ids: Iterable[int] | npt.NDArray[np.integer]) -> str:
        """The text of ids of shape (n,); bytes that are not UTF-8 become "\\ufffd".

        Words are joined by one space, and `<eos>` becomes a newline. Raises TextError for ids out of range.
        """
        array = _as_ids(ids)
        if array.size and not 0 <= array.min() <= array.max() < len(self):
            raise TextError(f"ids from {array.min()} to {array.max()} are not all from 0 to {len(self) - 1}")
        decoder = self.decoder()
        return "".join(map(decoder.feed, array.tolist())) + decoder.flush()

    def decoder(self) -> Decoder:
        """A new `Decoder`, for text that comes one id at a time."""
        return Decoder(self)

    def to_json(self) -> dict[str, object]:
        """The vocabulary as JSON types; `from_json` takes it back."""
        return {"level": self.level, "symbols": list(self.symbols), "unknown": self.unknown}

    @classmethod
    def from_json(cls, value: object) -> Vocabulary:
        """The vocabulary that `to_json` wrote. Raises TextError for anything else."""
        if not isinstance(value, dict) or value.keys() != {"level", "symbols", "unknown"}:
            raise TextError("a saved vocabulary has level, symbols and unknown, and nothing else")
        level, symbols, unknown = value["level"], value["symbols"], value["unknown"]
        if not isinstance(symbols, list):
            raise TextError("the symbols of a saved vocabulary are a list")
        if not isinstance(unknown, str | None):
            raise TextError("the unknown symbol of a saved vocabulary is a string or null")
        return cls(tuple(symbols), level, unknown)

    def _about_unknown(self, text: str, tokens: Sequence[str]) -> str:
        unknown = list(dict.fromkeys(token for token in tokens if token not in self._ids))
        names = ", ".join(_describe(token, self.level) for token in unknown[:5])
        more = f" and {len(unknown) - 5:,} more" if len(unknown) > 5 else ""
        verb = "is" if len(unknown) == 1 else "are"
        if self.level == "word":
            advice = "leave out what it does not have, or train with rare words as <unk> (min_count 2)"
        elif fits := [f for f in NORMAL_FORMS if self._ids.keys() >= set(unicodedata.normalize(f, text))]:
            advice = f"the text fits once it is normalised to {fits[0]}"
        else:
            advice = "leave out what it does not have, train on text that has it, or at level byte"
        return f"{names}{more} {verb} not among the {len(self):,} symbols of the vocabulary: {advice}"


class Decoder:
    """Ids in, text out, one at a time: `feed` gives the text that is certain by now, `flush` what is left.

    A byte of an incomplete UTF-8 sequence gives "" until the sequence is whole. The text that goes on after a
    prompt is right (words spaced, sequences whole) when the prompt's ids are fed first.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._symbols = vocabulary.symbols
        self._level = vocabulary.level
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._gap = ""

    def feed(self, id: int) -> str:
        """The text that one more id completes. Raises TextError for an id out of range."""
        if not 0 <= id < len(self._symbols):
            raise TextError(f"id {id} is not from 0 to {len(self._symbols) - 1}")
        symbol = self._symbols[id]
        if self._level == "byte":
            return self._utf8.decode(symbol.encode("latin-1"))
        if self._level == "char":
            return symbol
        if symbol == EOS:
            self._gap = ""
            return "\n"
        gap, self._gap = self._gap, " "
        return gap + symbol

    def flush(self) -> str:
        """What is left at the end: "\\ufffd" for an incomplete sequence, else ""."""
        return self._utf8.decode(b"", final=True)


def _tokens(text: str, level: Level) -> Sequence[str]:
    """The symbols of a text, in order; at char and byte level a str, whose characters they are."""
    if level == "char":
        return text
    if level == "word":
        return text.replace("\n", f" {EOS} ").split()
    try:
        return text.encode("utf-8", "surrogateescape").decode("latin-1")
    except UnicodeEncodeError as error:
        what = _describe(text[error.start], "char")
        raise TextError(f"{what} at character {error.start} is half a character: it has no bytes") from None


def _describe(symbol: str, level: Level) -> str:
    """A symbol for a message: 'ß' (U+00DF LATIN SMALL LETTER SHARP S), or "word"."""
    if level == "byte":
        return f"the byte 0x{ord(symbol):02x}"
    if level == "word":
        return _printable(repr(symbol))
    shown = f"'\N{DOTTED CIRCLE}{symbol}'" if unicodedata.combining(symbol) else repr(symbol)
    name = f"U+{ord(symbol):04X} {unicodedata.name(symbol, '')}"
    return f"{shown} ({name.rstrip()})"


def _printable(name: str) -> str:
    """A name as it is where it prints on one line, else with what does not print escaped."""
    return name if name.isprintable() else ascii(name)


def _choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise TextError(f"{name} is one of {', '.join(choices)}, not {value!r}")


def _whole(name: str, value: object, least: int) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise TextError(f"{name} is a whole number of at least {least}, not {value!r}")
    return int(value)


# ---------------------------------------------------------------------------------------------------- corpora


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
) -> Corpus:
    """Read the text of a file, of a folder's files, of standard input, or of an embedded corpus.

    source     a file; a folder, whose files that match `pattern`, at any depth, are joined in the order of
               their paths (hidden ones are passed over); "-", standard input; or, as str, one of `EMBEDDED`:
               "python-reference", the language reference inside every Python, or "python-source", the
               standard library, of which the first million characters are read if there is no `limit`.
               (A file of such a name is "./python-source".)
    level      at "byte" a file is taken as it is; else a byte order mark is dropped, "\\r\\n" and "\\r"
               become "\\n", and the text has to be valid in `encoding`, without NUL characters.
    normalize  the Unicode normal form the text is brought to, or None to leave it.
    limit      how many characters (at level byte: bytes) are taken; the rest of a large file stays unread.
               Without a limit a text of more than `MAX_CHARACTERS` is refused.

    A file of a folder that cannot be read is passed over, with a line in `Corpus.notes`.
    Raises TextError for what gives no text: missing, unreadable, empty, binary, not in the encoding.
    """
    _choice("level", level, LEVELS)
    if normalize is not None:
        _choice("normalize", normalize, NORMAL_FORMS)
    if limit is not None:
        limit = _whole("limit", limit, 1)
    embedded = isinstance(source, str) and source in EMBEDDED
    most = limit or (SOURCE_CHARACTERS if embedded else MAX_CHARACTERS)
    reader = _Reader(level, encoding, most)

    name = os.fspath(source)
    shown = _printable(name)
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

    def __init__(self, level: Level, encoding: str, most: int) -> None:
        self.raw = level == "byte"
        self.codec = _codec(encoding)
        if self.raw and self.codec != "utf-8":
            raise TextError(f"level byte reads bytes as they are: leave out the encoding {encoding!r}")
        self.most = most
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
        name = _printable(os.fspath(path))
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
        name = _printable(str(folder))
        try:
            paths = sorted(folder.rglob(pattern), key=Path.as_posix)
        except (OSError, ValueError, NotImplementedError) as error:
            raise TextError(f"cannot search {name} for {pattern!r} (--pattern): {_reason(error)}") from None
        paths = [p for p in paths if os.path.isfile(p) and not _is_hidden(p.relative_to(folder))]
        if not paths:
            raise TextError(f"no file in {name} that is not hidden matches {pattern!r} (--pattern)")
        text = self.files(paths)
        if not text and self.notes:
            raise TextError(f"no file in {name} that matches {pattern!r} gives a text; {self.notes[0]}")
        return text

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


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


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


# ---------------------------------------------------------------------------------------------------- batches


class Window(NamedTuple):
    """A stretch of some parallel rows of a text, one beside the other.

    inputs   int64 of shape (batch, time).
    targets  the same, one symbol further on: what is to be predicted from the inputs.
    first    True where the rows begin: the carried state is to be reset, to one of this batch size.
    """

    inputs: Ids
    targets: Ids
    first: bool


def split(
    ids: Ids, fractions: Sequence[float] = (0.95, 0.05), *, batch_size: int = 1, time_steps: int = 1
) -> tuple[Ids, ...]:
    """Cut ids of shape (n,) into contiguous parts: for training, validation and, with three fractions, test.

    The parts are views. Raises TextError where fractions are not positive or do not sum to 1, and where a
    part is too short for a window: of `batch_size` × `time_steps` the first, of 1 × `time_steps` the others.
    """
    ids = _as_ids(ids)
    batch_size, time_steps = _whole("batch_size", batch_size, 1), _whole("time_steps", time_steps, 1)
    if not all(f > 0 for f in fractions) or not math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
        raise TextError(f"the fractions of a split are positive and sum to 1, unlike {tuple(fractions)}")
    ends = [round(ids.size * sum(fractions[:i])) for i in range(1, len(fractions))] + [ids.size]
    parts = tuple(ids[start:end] for start, end in zip([0, *ends], ends))
    for i, part in enumerate(parts):
        rows = batch_size if i == 0 else 1
        if part.size < rows * time_steps + 1:
            name = ("training", "validation", "test")[i] if i < 3 else f"part {i + 1}"
            raise TextError(
                f"the text is too short: {part.size:,} of its {ids.size:,} symbols are for {name}, and "
                f"a window of {rows} × {time_steps} needs {rows * time_steps + 1:,}; {SHORTEN}"
            )
    return parts


class Batches(Iterator[Window]):
    """The endless stream of windows for truncated backpropagation through time.

    The ids, of shape (n,), are laid out as `batch_size` contiguous rows, and the windows of `time_steps` go
    along all rows at once, so that the state after one window is the state before the next. The ids at the
    end that do not fill a window of all rows, at most batch_size × time_steps, are not used. After the last
    window of an epoch comes the first again, with `first` set. A batch of 1 is one walk along the text.

        for window in itertools.islice(batches, len(batches)): ...      # one epoch

    `len(batches)` is the number of windows in an epoch, `batches.position` that of the windows given so far.
    Raises TextError where the text is too short for a single window.
    """

    def __init__(self, ids: Ids, batch_size: int, time_steps: int) -> None:
        ids = _as_ids(ids)
        batch_size = self.batch_size = _whole("batch_size", batch_size, 1)
        time_steps = self.time_steps = _whole("time_steps", time_steps, 1)
        self.position = 0
        self._length = (ids.size - 1) // (batch_size * time_steps)
        if self._length < 1:
            raise TextError(
                f"the text is too short: it has {ids.size:,} symbols, and a window of "
                f"{batch_size} × {time_steps} needs {batch_size * time_steps + 1:,}; {SHORTEN}"
            )
        self._inputs, self._targets = _rows(ids, batch_size, self._length * time_steps)
        self._checksum = zlib.crc32(ids.tobytes())

    def __len__(self) -> int:
        return self._length

    def __next__(self) -> Window:
        step = self.position % self._length
        now = slice(step * self.time_steps, (step + 1) * self.time_steps)
        self.position += 1
        return Window(self._inputs[:, now].copy(), self._targets[:, now].copy(), step == 0)

    @property
    def epoch(self) -> float:
        """How often the text was gone through so far."""
        return self.position / self._length

    def state_dict(self) -> dict[str, int]:
        """Where the stream is, and what it must be the stream of."""
        return {"position": self.position, **self._layout()}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go to where another stream of the same text and shape was. Raises TextError for any other state."""
        if state.keys() != self.state_dict().keys():
            raise TextError(f"a saved place in a text has {', '.join(self.state_dict())}, and nothing else")
        position = _whole("the saved position", state["position"], 0)
        for name, here in self._layout().items():
            if state[name] != here:
                raise TextError(
                    f"the saved place is in another text or layout: {name} {state[name]!r}, not {here!r}; "
                    "go on with the same text, batch size and time steps, or begin a new run"
                )
        self.position = position

    def _layout(self) -> dict[str, int]:
        return {
            "batch_size": self.batch_size,
            "time_steps": self.time_steps,
            "windows": self._length,
            "checksum": self._checksum,
        }


def windows(ids: Ids, batch_size: int, time_steps: int) -> Iterator[Window]:
    """The windows of one pass for evaluation: each symbol after the first is a target exactly once.

    ids of shape (n,) are laid out as `batch_size` rows of equal length, whose last window may be shorter than
    `time_steps`; the fewer than `batch_size` targets that are left come last, as one row that starts anew.
    A batch of 1 is a single walk along the text: the perplexity without any break.
    Raises TextError, at the call, for fewer than two ids.
    """
    ids = _as_ids(ids)
    if ids.size < 2:
        raise TextError("the text is too short to evaluate: it needs two symbols at least")
    return _windows(ids, _whole("batch_size", batch_size, 1), _whole("time_steps", time_steps, 1))


def _windows(ids: Ids, batch_size: int, time_steps: int) -> Iterator[Window]:
    length = (ids.size - 1) // batch_size
    inputs, targets = _rows(ids, batch_size, length)
    for start in range(0, length, time_steps):
        now = slice(start, start + time_steps)
        yield Window(inputs[:, now].copy(), targets[:, now].copy(), start == 0)
    if batch_size * length < ids.size - 1:
        yield from _windows(ids[batch_size * length :], 1, time_steps)


def _rows(ids: Ids, batch_size: int, length: int) -> tuple[Ids, Ids]:
    """The first `batch_size` contiguous rows of `length` inputs, and their targets, as views."""
    used = batch_size * length
    return ids[:used].reshape(batch_size, length), ids[1 : used + 1].reshape(batch_size, length)


def _as_ids(ids: Iterable[int] | npt.NDArray[np.integer]) -> Ids:
    array = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids))
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise TextError(f"ids are whole numbers of shape (n,), not {array.dtype} of shape {array.shape}")
    return array.astype(np.int64, copy=False)

"""Vocabularies: the symbols of a text, numbered; a text to ids and back."""

from __future__ import annotations

import codecs
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from .checks import TextError, check_choice, checked_whole, printable

Ids: TypeAlias = npt.NDArray[np.int64]
Level: TypeAlias = Literal["char", "byte", "word"]
NormalForm: TypeAlias = Literal["NFC", "NFD", "NFKC", "NFKD"]

LEVELS: tuple[Level, ...] = get_args(Level)
NORMAL_FORMS: tuple[NormalForm, ...] = get_args(NormalForm)
EOS = "<eos>"  # the end of a line, at word level
UNKNOWN = {"char": "\N{REPLACEMENT CHARACTER}", "word": "<unk>"}  # what stands for symbols that were left out
BYTES = tuple(map(chr, range(256)))  # the symbols of the byte level: symbol and id of a byte are its value


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
        check_choice("level", self.level, LEVELS)
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
        check_choice("level", level, LEVELS)
        min_count = checked_whole("min_count", min_count, 1)
        if max_size is not None:
            max_size = checked_whole("max_size", max_size, 2)
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
                most = "" if max_size is None else f" and max_size {max_size:,}"
                raise TextError(
                    f"min_count {min_count:,}{most} leave no symbol of the text, whose most frequent one is met "
                    f"{counts.most_common(1)[0][1]:,} times"
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
        array = as_ids(ids)
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
        return printable(repr(symbol if len(symbol) <= 40 else symbol[:39] + "…"))
    shown = f"'\N{DOTTED CIRCLE}{symbol}'" if unicodedata.combining(symbol) else repr(symbol)
    name = f"U+{ord(symbol):04X} {unicodedata.name(symbol, '')}"
    return f"{shown} ({name.rstrip()})"


def as_ids(ids: Iterable[int] | npt.NDArray[np.integer]) -> Ids:
    array = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids))
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise TextError(f"ids are whole numbers of shape (n,), not {array.dtype} of shape {array.shape}")
    return array.astype(np.int64, copy=False)

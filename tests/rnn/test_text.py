"""Text: every round trip, every refusal, and batches against a loop that is written another way."""

import codecs
import io
import itertools
import json
import math
import os
import sys
import types
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn.text import (
    EMBEDDED,
    EOS,
    LEVELS,
    Batches,
    Corpus,
    TextError,
    Vocabulary,
    read_corpus,
    split,
    windows,
)
from rnn.text import corpus as text_module

SAMPLES = {
    "english": "The quick brown fox\njumps over the lazy dog.\n",
    "korean": "나는 학교에 간다.\n오늘 날씨가 좋다!\n",
    "korean, decomposed": unicodedata.normalize("NFD", "한국어 문장입니다\n"),
    "japanese": "吾輩は猫である。名前はまだ無い。\nカタカナ\n",
    "emoji": "😀 👩‍👩‍👧 🇰🇷 👍🏽\n",
    "combining": "e\u0301 a\u0308 n\u0303 \u0f62\u0f90\n",
    "controls": "tab\tbell\x07 form\x0c nbsp\xa0 line\u2028 end",
}


def one_line(error: pytest.ExceptionInfo[TextError]) -> str:
    """The message, which is one printable line."""
    message = str(error.value)
    assert message.isprintable(), message
    message.encode("utf-8")
    return message


def refused(call, *parts):
    """`call` raises a TextError whose message has all the parts."""
    with pytest.raises(TextError) as error:
        call()
    message = one_line(error)
    for part in parts:
        assert part in message, message


# ------------------------------------------------------------------------------------------------ vocabulary


@pytest.mark.parametrize("level", ["char", "byte"])
@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_round_trip(sample, level):
    vocabulary = Vocabulary.from_text(sample, level)
    ids = vocabulary.encode(sample)
    assert ids.dtype == np.int64 and ids.shape == (len(sample if level == "char" else sample.encode()),)
    assert vocabulary.decode(ids) == sample
    assert vocabulary.decode(ids.tolist()) == sample
    decoder = vocabulary.decoder()
    assert "".join(decoder.feed(i) for i in ids.tolist()) == sample and decoder.flush() == ""


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_words_come_back_with_single_spaces(sample):
    vocabulary = Vocabulary.from_text(sample, "word")
    lines = [" ".join(line.split()) for line in sample.split("\n")]
    assert vocabulary.decode(vocabulary.encode(sample)) == "\n".join(lines)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=2).filter(lambda s: len(set(s)) > 1))
def test_any_text_survives(text):
    for level in ("char", "byte"):
        vocabulary = Vocabulary.from_text(text, level)
        assert vocabulary.decode(vocabulary.encode(text)) == text


@given(st.binary(min_size=1))
def test_any_bytes_survive(data):
    vocabulary = Vocabulary.from_text("ab", "byte")
    ids = vocabulary.encode(data.decode("utf-8", "surrogateescape"))
    assert bytes(ids.tolist()) == data
    assert vocabulary.decode(ids) == data.decode("utf-8", "replace")


def test_order_is_fixed():
    assert Vocabulary.from_text("cab\nA가", "char").symbols == ("\n", "A", "a", "b", "c", "가")
    words = Vocabulary.from_text("b a c b\nc b d", "word")
    assert words.symbols == (EOS, "b", "c", "a", "d") and words.unknown is None
    assert Vocabulary.from_text("ab", "byte").symbols == tuple(chr(i) for i in range(256))


def test_byte_ids_are_bytes():
    vocabulary = Vocabulary.from_text("가나", "byte")
    assert vocabulary.encode("é한").tolist() == list("é한".encode())
    assert len(vocabulary) == 256


def test_char_level_counts_code_points():
    vocabulary = Vocabulary.from_text("e\u0301é")
    assert vocabulary.symbols == ("e", "\u00e9", "\u0301")
    assert vocabulary.encode("e\u0301").shape == (2,) and vocabulary.encode("é").shape == (1,)


def test_empty_encodes_to_nothing():
    for level in LEVELS:
        vocabulary = Vocabulary.from_text("a b", level)
        assert vocabulary.encode("").shape == (0,) and vocabulary.encode("").dtype == np.int64
        assert vocabulary.decode([]) == ""


def test_penn_treebank_convention():
    text = " mr. <unk> is N\n the <unk> N\n"
    vocabulary = Vocabulary.from_text(text, "word")
    assert vocabulary.symbols == (EOS, "<unk>", "N", "is", "mr.", "the") and vocabulary.unknown == "<unk>"
    ids = vocabulary.encode(text)
    assert ids.tolist() == [4, 1, 3, 2, 0, 5, 1, 2, 0]
    assert vocabulary.encode("the stranger").tolist() == [5, 1]
    assert vocabulary.decode(ids) == "mr. <unk> is N\nthe <unk> N\n"


def test_rare_words_become_unk():
    text = "a a a b b c d\n"
    vocabulary = Vocabulary.from_text(text, "word", min_count=2)
    assert vocabulary.symbols == (EOS, "<unk>", "a", "b")
    assert vocabulary.decode(vocabulary.encode(text)) == "a a a b b <unk> <unk>\n"
    assert Vocabulary.from_text(text, "word", max_size=5).symbols == (EOS, "a", "b", "c", "d")
    assert Vocabulary.from_text(text, "word", max_size=4).symbols == (EOS, "<unk>", "a", "b")
    assert len(Vocabulary.from_text(text, "word", max_size=3)) == 3


def test_rare_words_join_the_unk_of_the_text():
    vocabulary = Vocabulary.from_text("a <unk> a b\n", "word", min_count=2)
    assert vocabulary.symbols == (EOS, "<unk>", "a")
    assert vocabulary.decode(vocabulary.encode("b a")) == "<unk> a"


def test_rare_characters_become_replacement_characters():
    text = "aaabbc"
    for options in ({"min_count": 2}, {"max_size": 3, "min_count": 2}):
        vocabulary = Vocabulary.from_text(text, **options)
        assert vocabulary.symbols == ("a", "b", "\ufffd") and vocabulary.unknown == "\ufffd"
        assert vocabulary.decode(vocabulary.encode("abcz")) == "ab\ufffd\ufffd"
    assert Vocabulary.from_text(text, max_size=2).symbols == ("a", "\ufffd")
    assert Vocabulary.from_text(text, max_size=3).symbols == ("a", "b", "c")
    # a replacement character of the text itself makes no unknown symbol of it, and is not doubled
    assert Vocabulary.from_text("a\ufffd").unknown is None
    assert Vocabulary.from_text("aab\ufffd\ufffd", min_count=2).symbols == ("a", "\ufffd")


@pytest.mark.parametrize("level", LEVELS)
def test_json(level):
    vocabulary = Vocabulary.from_text("ein <unk> 문장 😀 e\u0301\nund", level)
    value = json.loads(json.dumps(vocabulary.to_json()))
    assert Vocabulary.from_json(value) == vocabulary
    assert hash(Vocabulary.from_json(value)) == hash(vocabulary)


def test_repr_is_short():
    assert repr(Vocabulary.from_text("abc")) == "Vocabulary(3 symbols, level='char', unknown=None)"


@pytest.mark.parametrize(
    "value, part",
    [
        (None, "level, symbols and unknown"),
        ([], "level, symbols and unknown"),
        ({"level": "char", "symbols": ["a"]}, "level, symbols and unknown"),
        ({"level": "char", "symbols": ["a"], "unknown": None, "x": 1}, "level, symbols and unknown"),
        ({"level": "char", "symbols": "ab", "unknown": None}, "list"),
        ({"level": "char", "symbols": ["a", 1], "unknown": None}, "tuple of str"),
        ({"level": "char", "symbols": [], "unknown": None}, "at least one"),
        ({"level": "char", "symbols": ["a", "b", "a"], "unknown": None}, "'a' more than once"),
        ({"level": "char", "symbols": ["a", "bc"], "unknown": None}, "one character, not 'bc'"),
        ({"level": "char", "symbols": ["a", ""], "unknown": None}, "one character, not ''"),
        ({"level": "word", "symbols": ["a", "b"], "unknown": None}, "<eos>"),
        ({"level": "word", "symbols": [EOS, "b c"], "unknown": None}, "white space"),
        ({"level": "word", "symbols": [EOS, ""], "unknown": None}, "white space"),
        ({"level": "byte", "symbols": ["a", "b"], "unknown": None}, "256"),
        ({"level": "letter", "symbols": ["a"], "unknown": None}, "char, byte, word, not 'letter'"),
        ({"level": ["char"], "symbols": ["a"], "unknown": None}, "char, byte, word"),
        ({"level": "char", "symbols": ["a"], "unknown": 3}, "string or null"),
        ({"level": "char", "symbols": ["a"], "unknown": "b"}, "not in the vocabulary"),
    ],
)
def test_json_is_validated(value, part):
    refused(lambda: Vocabulary.from_json(value), part)


def test_unknown_characters_are_named():
    vocabulary = Vocabulary.from_text("abc \n")
    refused(
        lambda: vocabulary.encode("abß"),
        "'ß' (U+00DF LATIN SMALL LETTER SHARP S) is not among the 5 symbols",
        "level byte",
    )
    refused(
        lambda: vocabulary.encode("가 😀"), "U+AC00 HANGUL SYLLABLE GA", "U+1F600 GRINNING FACE", " are not"
    )
    refused(
        lambda: vocabulary.encode("\x07\udc80\u0301"), "(U+0007)", "(U+DC80)", "'◌\u0301' (U+0301 COMBINING"
    )
    refused(lambda: vocabulary.encode("stuvwxyz stu"), "'w' (U+0077 LATIN SMALL LETTER W) and 3 more are")


def test_unknown_characters_that_another_normal_form_has():
    composed = Vocabulary.from_text("한국é")
    refused(lambda: composed.encode(unicodedata.normalize("NFD", "한")), "normalised to NFC")
    decomposed = Vocabulary.from_text(unicodedata.normalize("NFD", "한국é"))
    refused(lambda: decomposed.encode("한"), "normalised to NFD")
    refused(lambda: Vocabulary.from_text("ab").encode("ａ"), "normalised to NFKC")


def test_unknown_words_are_named():
    vocabulary = Vocabulary.from_text("to be or not to be", "word")
    refused(
        lambda: vocabulary.encode("to bee or nöt"), "'bee', 'nöt' are not among the 5 symbols", "min_count 2"
    )


def test_half_a_character_has_no_bytes():
    vocabulary = Vocabulary.from_text("ab", "byte")
    refused(lambda: vocabulary.encode("ab\ud800"), "(U+D800) at character 2")


@pytest.mark.parametrize(
    "call, parts",
    [
        (lambda: Vocabulary.from_text(""), ["the text is empty"]),
        (lambda: Vocabulary.from_text(" \t ", "word"), ["has no words"]),
        (lambda: Vocabulary.from_text("aaaa"), ["'a' (U+0061 LATIN SMALL LETTER A) over and over"]),
        (lambda: Vocabulary.from_text("aaaa", "byte"), ["the byte 0x61 over and over"]),
        (lambda: Vocabulary.from_text("hi hi hi", "word"), ["'hi' over and over"]),
        (lambda: Vocabulary.from_text("\n\n", "word"), ["'<eos>' over and over"]),
        (lambda: Vocabulary.from_text("ab", "letter"), ["level is one of char, byte, word, not 'letter'"]),
        (
            lambda: Vocabulary.from_text("ab", min_count=0),
            ["min_count is a whole number of at least 1, not 0"],
        ),
        (lambda: Vocabulary.from_text("ab", min_count=True), ["min_count"]),
        (lambda: Vocabulary.from_text("ab", max_size=1), ["max_size is a whole number of at least 2, not 1"]),
        (lambda: Vocabulary.from_text("ab", max_size=2.5), ["max_size"]),
        (lambda: Vocabulary.from_text("ab", min_count=9), ["min_count 9", "leave no symbol"]),
        (lambda: Vocabulary.from_text("a b c", "word", max_size=2), ["max_size 2", "leave no symbol"]),
        (lambda: Vocabulary.from_text("ab", "byte", max_size=100), ["all 256"]),
        (lambda: Vocabulary.from_text("ab", "byte", min_count=2), ["all 256"]),
        (lambda: Vocabulary(["a", "b"]), ["tuple of str"]),
        (lambda: Vocabulary.from_text("ab").decode([0, 2]), ["0 to 2", "from 0 to 1"]),
        (lambda: Vocabulary.from_text("ab").decode([-1]), ["from 0 to 1"]),
        (lambda: Vocabulary.from_text("ab").decode([0.5]), ["whole numbers", "float64"]),
        (lambda: Vocabulary.from_text("ab").decode(np.zeros((2, 2), int)), ["shape (2, 2)"]),
        (lambda: Vocabulary.from_text("ab").decoder().feed(2), ["id 2 is not from 0 to 1"]),
        (lambda: Vocabulary.from_text("ab").decoder().feed(-1), ["id -1"]),
    ],
)
def test_impossible_vocabularies_and_ids(call, parts):
    refused(call, *parts)


# ---------------------------------------------------------------------------------------------------- decoder


def test_decoder_waits_for_whole_sequences():
    decoder = Vocabulary.from_text("ab", "byte").decoder()
    assert [decoder.feed(b) for b in "é한😀".encode()] == ["", "é", "", "", "한", "", "", "", "😀"]
    assert decoder.flush() == ""


@pytest.mark.parametrize(
    "data",
    [b"\xed\x95", b"\xf0\x9f\x98", b"\xff\xfe", b"\xc3(", b"a\x80b\xe2\x82c", b"\xed\xa0\x80", b"\xc0\xaf"],
)
def test_decoder_replaces_what_is_no_utf8(data):
    vocabulary = Vocabulary.from_text("ab", "byte")
    decoder = vocabulary.decoder()
    streamed = "".join(decoder.feed(b) for b in data) + decoder.flush()
    assert streamed == vocabulary.decode(list(data)) == data.decode("utf-8", "replace")


def test_decoder_spaces_words_after_a_prompt():
    vocabulary = Vocabulary.from_text("to be or not\nto see", "word")
    prompt, rest = vocabulary.encode("to be"), vocabulary.encode("or not\nto see")
    decoder = vocabulary.decoder()
    for i in prompt:
        decoder.feed(i)
    assert [decoder.feed(i) for i in rest] == [" or", " not", "\n", "to", " see"]


# ---------------------------------------------------------------------------------------------------- corpora


@pytest.fixture
def write(tmp_path):
    def write(name: str, data: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return write


@pytest.fixture
def standard_input(monkeypatch):
    def give(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="ascii"))

    return give


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
@pytest.mark.parametrize("level", LEVELS)
def test_file(write, sample, level):
    path = write("a.txt", sample)
    for source in (path, str(path)):
        assert read_corpus(source, level=level) == Corpus(str(path), sample)


def test_python_reference():
    corpus = read_corpus()
    assert corpus == read_corpus("python-reference")
    assert corpus.name == "python-reference" and corpus.notes == ()
    assert 300_000 < len(corpus.text) < 2_000_000
    assert "lambda" in corpus.text and "\r" not in corpus.text and len(set(corpus.text)) > 80
    raw = read_corpus("python-reference", level="byte")
    assert raw.text == corpus.text
    assert len(read_corpus("python-reference", limit=1000).text) == 1000


@pytest.mark.parametrize("fraction", [0.8, 0.9, 0.95])
def test_python_reference_does_not_give_validation_away(fraction):
    """No paragraph of the held-out end is in the part before it."""
    text = read_corpus("python-reference").text
    cut = int(len(text) * fraction)
    train, valid = (text_module._paragraphs(part) for part in (text[:cut], text[cut:]))
    assert len(valid) > 20 and not train & valid


def test_python_source():
    corpus = read_corpus("python-source")
    assert 500_000 < len(corpus.text) <= 1_000_000
    assert "def " in corpus.text and "import " in corpus.text
    assert read_corpus("python-source", limit=5000).text == corpus.text[:5000]
    assert len(read_corpus("python-source", limit=1_500_000).text) > len(corpus.text)
    assert read_corpus("python-source", level="byte", limit=3000).text == corpus.text[:3000]


def test_python_without_its_reference(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    refused(lambda: read_corpus("python-reference"), "pydoc_data", "give a text file")
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", types.ModuleType("topics"))
    refused(lambda: read_corpus("python-reference"), "pydoc_data")


def test_python_without_its_source(monkeypatch, tmp_path):
    monkeypatch.setattr(text_module.sysconfig, "get_path", lambda name: str(tmp_path))
    refused(lambda: read_corpus("python-source"), "without the source", "give a text file")


def test_a_file_named_as_an_embedded_corpus(write, monkeypatch, tmp_path):
    write("python-source", "mine")
    monkeypatch.chdir(tmp_path)
    assert read_corpus("./python-source").text == "mine"
    assert read_corpus(Path("python-source")).text == "mine"


def test_standard_input(standard_input):
    standard_input("나는 간다\r\n".encode())
    assert read_corpus("-") == Corpus("standard input", "나는 간다\n")
    standard_input(b"\xff\x00\r\n")
    assert Vocabulary.from_text("ab", "byte").encode(read_corpus("-", level="byte").text).tolist() == [
        255,
        0,
        13,
        10,
    ]


def test_standard_input_that_gives_nothing(standard_input, monkeypatch):
    standard_input(b"")
    refused(lambda: read_corpus("-"), "standard input is empty")
    standard_input(b"\xff")
    refused(lambda: read_corpus("-"), "standard input is not utf-8: invalid start byte at byte 0")
    sys.stdin.close()
    refused(lambda: read_corpus("-"), "standard input is closed")
    monkeypatch.setattr(sys, "stdin", None)
    refused(lambda: read_corpus("-"), "standard input is closed")

    class Broken(io.RawIOBase):
        def read(self, size=-1):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=Broken()))
    refused(lambda: read_corpus("-"), "cannot read standard input: Input/output error")


def test_newlines_and_byte_order_mark(write):
    path = write("a.txt", "\ufeffone\r\ntwo\rthree\n\ufefffour\r".encode())
    assert read_corpus(path).text == "one\ntwo\nthree\n\ufefffour\n"
    assert read_corpus(path, level="byte").text == path.read_bytes().decode()


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-32", "euc-kr", "cp949", "utf-8-sig", "UTF8"]
)
def test_encodings(write, encoding):
    text = "한글 문장\r\n두 줄\n" * 3
    assert read_corpus(write("a.txt", text.encode(encoding)), encoding=encoding).text == text.replace(
        "\r", ""
    )


def test_chunks_do_not_show(write, monkeypatch):
    text = "\ufeff가나다\r\n😀e\u0301\r\r\n" * 5
    path = write("a.txt", text)
    whole = read_corpus(path).text
    for chunk in range(1, 12):
        monkeypatch.setattr(text_module, "CHUNK", chunk)
        assert read_corpus(path).text == whole
        assert read_corpus(path, limit=7).text == whole[:7]
        assert read_corpus(path, level="byte").text == text
        bad = write("b.txt", text[:14].encode() + b"\xff" + text[14:].encode())
        at = len(text[:14].encode())
        refused(lambda: read_corpus(bad), f"invalid start byte at byte {at};")  # noqa: B023


def test_normal_forms(write):
    path = write("a.txt", "한é" + unicodedata.normalize("NFD", "한é") + "ﬁ")
    assert read_corpus(path).text == path.read_text(encoding="utf-8")
    assert read_corpus(path, normalize="NFC").text == "한é한éﬁ"
    assert read_corpus(path, normalize="NFD").text == unicodedata.normalize("NFD", "한é한éﬁ")
    assert read_corpus(path, normalize="NFKC").text == "한é한éfi"
    refused(lambda: read_corpus(path, normalize="nfc"), "normalize is one of NFC, NFD, NFKC, NFKD, not 'nfc'")


def test_limit_leaves_the_rest_unread(write, monkeypatch):
    path = write("a.txt", "가나다\n" * 1000)
    corpus = read_corpus(path, limit=6)
    assert corpus.text == "가나다\n가나" and corpus.notes == (f"read the first 6 characters of {path}",)
    assert read_corpus(path, limit=4000).notes == () and len(read_corpus(path, limit=4000).text) == 4000
    assert read_corpus(path, limit=10**18).text == path.read_text(encoding="utf-8")
    raw = read_corpus(path, level="byte", limit=4)
    assert Vocabulary.from_text("ab", "byte").encode(raw.text).tolist() == list("가나".encode()[:4])

    monkeypatch.setattr(text_module, "CHUNK", 16)
    with open(path, "rb") as stream:
        text_module._Reader("char", "utf-8", 6).stream(stream, "a")
        assert stream.tell() <= 32
    for limit in (0, -1, 1.5, True, "9"):
        refused(lambda: read_corpus(path, limit=limit), "limit is a whole number of at least 1")  # noqa: B023


def test_endless_text_is_refused_without_a_limit(standard_input, write, monkeypatch):
    monkeypatch.setattr(text_module, "MAX_CHARACTERS", 1000)
    monkeypatch.setattr(text_module, "CHUNK", 100)
    standard_input(b"ab" * 5000)
    refused(lambda: read_corpus("-"), "standard input has more than 1,000 characters", "--limit")
    assert sys.stdin.buffer.tell() < 2000
    standard_input(b"ab" * 5000)
    assert len(read_corpus("-", limit=1500).text) == 1500
    folder = write("d/a.txt", "x" * 600).parent
    write("d/b.txt", "y" * 600)
    refused(lambda: read_corpus(folder), "more than 1,000 characters", "--limit")
    assert len(read_corpus("python-reference").text) > 1000


def test_folder(write, tmp_path):
    write("d/b.txt", "second")
    write("d/a/z.txt", "first\r\n")
    write("d/c.md", "other")
    write("d/empty.txt", "")
    write("d/.hidden/x.txt", "hidden")
    write("d/.x.txt", "hidden")
    (tmp_path / "d" / "folder.txt").mkdir()
    folder = tmp_path / "d"
    assert read_corpus(folder) == Corpus(str(folder), "first\nsecond\n")
    assert read_corpus(str(folder), pattern="*.md").text == "other\n"
    assert read_corpus(folder, pattern="a/*.txt").text == "first\n"
    assert read_corpus(folder, pattern="*", limit=8).text == "first\nse"
    assert read_corpus(folder, level="byte").text == "first\r\nsecond"
    assert read_corpus(folder, skip=lambda path: "first" in path.read_text()).text == "second\n"


def test_folder_of_bytes_joins_split_sequences(write, tmp_path):
    write("a.txt", "가".encode()[:2])
    write("b.txt", "가".encode()[2:])
    assert read_corpus(tmp_path, level="byte").text == "가"


def test_folder_passes_over_what_is_no_text(write, tmp_path):
    write("a.txt", "good\n")
    write("b.txt", b"bad \xff")
    write("c.txt", b"\x00\x01")
    write("d.txt", "fine\n")
    corpus = read_corpus(tmp_path)
    assert corpus.text == "good\nfine\n"
    assert [note.split(":")[0] for note in corpus.notes] == ["skipped", "skipped"]
    assert "b.txt is not utf-8" in corpus.notes[0] and "c.txt is a binary file" in corpus.notes[1]
    assert read_corpus(tmp_path, limit=3).notes == (f"read the first 3 characters of {tmp_path}",)


def test_folder_that_gives_nothing(write, tmp_path):
    folder = write("d/a.txt", b"\x00\xff").parent
    refused(lambda: read_corpus(folder), "no file in", "'*.txt' gives a text", "skipped: ", "binary file")
    refused(lambda: read_corpus(folder, pattern="*.py"), "no file in", "'*.py'", "--pattern")
    refused(lambda: read_corpus(folder, pattern="/x/*"), "cannot search", "--pattern")
    write("e/a.txt", "")
    refused(lambda: read_corpus(tmp_path / "e"), "is empty")


def test_folder_whose_pattern_is_empty(write):
    folder = write("d/a.txt", "text").parent
    refused(lambda: read_corpus(folder, pattern=""), "--pattern")


def test_missing(tmp_path):
    refused(
        lambda: read_corpus(tmp_path / "no.txt"), "there is no", "no.txt", "python-reference, python-source"
    )
    refused(lambda: read_corpus("python-refrence"), "there is no python-refrence")
    refused(lambda: read_corpus(""), "there is no")
    refused(lambda: read_corpus("a\0b"), r"cannot read 'a\x00b'")
    refused(lambda: read_corpus("x" * 5000), "cannot read", "File name too long")
    refused(lambda: read_corpus("no\nsuch \udcff"), r"'no\nsuch \udcff'")


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs symbolic links")
def test_unreadable(write, tmp_path):
    (tmp_path / "loop.txt").symlink_to(tmp_path / "loop.txt")
    refused(lambda: read_corpus(tmp_path / "loop.txt"), "cannot read", "loop.txt: Too many levels")
    refused(lambda: read_corpus(write("a.txt", "x") / "b.txt"), "cannot read", "Not a directory")


def test_not_allowed(write, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(13, "Permission denied", path)

    path = write("a.txt", "text")
    monkeypatch.setattr(text_module, "open", refuse, raising=False)
    refused(lambda: read_corpus(path), "cannot read", "a.txt: Permission denied")
    refused(lambda: read_corpus(path.parent), "gives a text", "Permission denied")


def test_empty(write):
    path = write("a.txt", "")
    refused(lambda: read_corpus(path), "a.txt is empty")
    refused(lambda: read_corpus(path, level="byte"), "a.txt is empty")
    refused(lambda: read_corpus(write("b.txt", codecs.BOM_UTF8)), "b.txt is empty")


def test_binary(write):
    path = write("a.bin", b"\x7fELF\x02\x01\x00\x00\xff")
    refused(lambda: read_corpus(path), "a.bin is a binary file", "--level byte", "--encoding")
    refused(lambda: read_corpus(write("nul.txt", b"a\x00b")), "NUL bytes")
    refused(lambda: read_corpus(write("utf16.txt", "text".encode("utf-16"))), "--encoding, such as utf-16")
    refused(lambda: read_corpus(path, encoding="latin-1"), "a.bin is a binary file")
    refused(lambda: read_corpus(write("nul16.txt", "a\0b".encode("utf-16")), encoding="utf-16"), "NUL bytes")
    corpus = read_corpus(path, level="byte")
    ids = Vocabulary.from_text(corpus.text, "byte").encode(corpus.text)
    assert bytes(ids.tolist()) == path.read_bytes()


def test_not_in_the_encoding(write):
    path = write("a.txt", "Straße".encode("latin-1"))
    refused(lambda: read_corpus(path), "is not utf-8: invalid", "at byte 4;", "--encoding", "--level byte")
    assert read_corpus(path, encoding="latin-1").text == "Straße"
    refused(lambda: read_corpus(write("b.txt", "ab가".encode()[:-1])), "unexpected end of data at byte 2;")
    refused(lambda: read_corpus(path, encoding="ascii"), "is not ascii", "at byte 4;")
    refused(lambda: read_corpus(write("c.txt", b"abc"), encoding="utf-16"), "is not utf-16", "start with BOM")
    odd = write("e.txt", "ab".encode("utf-16") + b"c")
    refused(lambda: read_corpus(odd, encoding="utf-16"), "is not utf-16: truncated data at byte 6;")
    refused(lambda: read_corpus(path, encoding="undefined"), "is not undefined")
    bom = write("d.txt", codecs.BOM_UTF8 + b"a\xff")
    refused(lambda: read_corpus(bom), "at byte 4;")


@pytest.mark.parametrize("encoding", ["klingon", "", "hex", "rot13", "a\0b"])
def test_no_such_encoding(write, encoding):
    refused(lambda: read_corpus(write("a.txt", "ab"), encoding=encoding), f"no text encoding {encoding!r}")


def test_impossible_combinations(write):
    path = write("a.txt", "ab")
    refused(lambda: read_corpus(path, level="byte", encoding="euc-kr"), "leave out the encoding 'euc-kr'")
    refused(lambda: read_corpus(path, level="bytes"), "level is one of char, byte, word, not 'bytes'")
    assert read_corpus(path, level="byte", encoding="UTF8").text == "ab"


def test_embedded_names():
    assert list(EMBEDDED) == ["python-reference", "python-source"]


# ------------------------------------------------------------------------------------------------------ split


def test_split():
    ids = np.arange(1000)
    train, valid = split(ids)
    assert train.size == 950 and np.array_equal(np.concatenate([train, valid]), ids)
    assert np.shares_memory(train, ids) and train.dtype == np.int64
    parts = split(ids, (0.8, 0.1, 0.1))
    assert [part.size for part in parts] == [800, 100, 100] and np.array_equal(np.concatenate(parts), ids)
    assert np.array_equal(split(ids, (1.0,))[0], ids)


@given(st.integers(200, 5000), st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_split_loses_nothing(n, weights):
    ids = np.arange(n)
    parts = split(ids, [w / sum(weights) for w in weights])
    assert np.array_equal(np.concatenate(parts), ids)
    assert all(abs(part.size - n * w / sum(weights)) <= 1 for part, w in zip(parts, weights))


def test_split_just_long_enough():
    split(np.arange(100), (0.9, 0.1), batch_size=10, time_steps=8)
    split(np.arange(100), (0.9, 0.1), batch_size=1, time_steps=9)
    refused(
        lambda: split(np.arange(100), (0.9, 0.1), batch_size=10, time_steps=9),
        "90 of its 100 symbols are for training, and a window of 10 × 9 needs 91; give more text",
    )
    refused(
        lambda: split(np.arange(100), (0.9, 0.1), batch_size=1, time_steps=10),
        "10 of its 100 symbols are for validation, and a window of 1 × 10 needs 11;",
    )
    refused(lambda: split(np.arange(20), (0.5, 0.45, 0.05)), "1 of its 20 symbols are for test")
    refused(lambda: split(np.arange(20), (0.5, 0.3, 0.15, 0.05)), "for part 4")


@pytest.mark.parametrize(
    "fractions", [(), (0.5,), (0.9, 0.05), (1.0, 0.1), (1.1, -0.1), (1.0, 0.0), (math.nan, 0.5)]
)
def test_split_fractions(fractions):
    refused(lambda: split(np.arange(100), fractions), "positive and sum to 1")


# ---------------------------------------------------------------------------------------------------- batches


def plain_batches(ids, batch_size, time_steps):
    """One epoch, row by row and step by step, in plain Python."""
    count = 0
    while (count + 1) * time_steps * batch_size + 1 <= len(ids):
        count += 1
    row = count * time_steps
    for window in range(count):
        inputs, targets = [], []
        for b in range(batch_size):
            at = b * row + window * time_steps
            inputs.append([ids[at + t] for t in range(time_steps)])
            targets.append([ids[at + t + 1] for t in range(time_steps)])
        yield inputs, targets, window == 0


@pytest.mark.parametrize("n", [2, 7, 64, 65, 66, 129, 1000])
@pytest.mark.parametrize("batch_size, time_steps", [(1, 1), (1, 25), (3, 1), (4, 5), (8, 8), (2, 31)])
def test_batches_against_a_plain_loop(n, batch_size, time_steps):
    ids = np.random.default_rng(0).integers(0, 50, n)
    if n < batch_size * time_steps + 1:
        refused(
            lambda: Batches(ids, batch_size, time_steps), f"needs {batch_size * time_steps + 1};", "more text"
        )
        return
    batches = Batches(ids, batch_size, time_steps)
    epoch = list(plain_batches(ids.tolist(), batch_size, time_steps))
    assert len(batches) == len(epoch)
    for k, (inputs, targets, first) in enumerate(epoch * 2):
        assert batches.position == k and batches.epoch == k / len(epoch)
        window = next(batches)
        assert window.inputs.tolist() == inputs and window.targets.tolist() == targets
        assert window.first is first
        assert window.inputs.dtype == window.targets.dtype == np.int64
        assert window.inputs.flags.c_contiguous and window.targets.flags.c_contiguous
    assert batches.epoch == 2.0
    unused = n - (len(epoch) * batch_size * time_steps + 1)
    assert 0 <= unused < batch_size * time_steps


def test_rows_go_on_from_window_to_window():
    """What the carried state has seen is the text: each window begins where the last one of its row ended."""
    ids = np.arange(1000)
    epoch = list(itertools.islice(Batches(ids, 4, 7), len(Batches(ids, 4, 7))))
    for before, after in itertools.pairwise(epoch):
        assert np.array_equal(after.inputs[:, 0], before.targets[:, -1]) and not after.first
    rows = np.concatenate([window.inputs for window in epoch], axis=1)
    assert np.array_equal(rows.ravel(), np.arange(rows.size))


def test_one_walk_along_the_text():
    """A batch of 1 is the loop of the minimal character model: p += T, and anew when the text ends."""
    ids, steps, p = np.random.default_rng(1).integers(0, 9, 103), 10, 0
    batches = Batches(ids, 1, steps)
    for n in range(25):
        first = p + steps + 1 > ids.size or n == 0
        if first:
            p = 0
        window = next(batches)
        assert window.first == first
        assert np.array_equal(window.inputs[0], ids[p : p + steps])
        assert np.array_equal(window.targets[0], ids[p + 1 : p + steps + 1])
        p += steps


@pytest.mark.parametrize("n, batch_size, time_steps", [(66, 4, 5), (65, 4, 4), (104, 1, 10), (1000, 7, 3), (3, 2, 1)])
def test_a_circular_text_goes_on(n, batch_size, time_steps):
    """The stream of Saito's RnnlmTrainer: its time index goes on over the epochs, modulo the length of the data."""
    ids = np.random.default_rng(3).integers(0, 50, n)
    batches, data = Batches(ids, batch_size, time_steps, circular=True), n - 1
    assert len(batches) == len(Batches(ids, batch_size, time_steps)) == data // (batch_size * time_steps)
    seen = set()
    for k in range(batch_size * len(batches) + n):
        places = [[(row * (data // batch_size) + k * time_steps + t) % data for t in range(time_steps)]
                  for row in range(batch_size)]
        window = next(batches)
        assert window.inputs.tolist() == ids[places].tolist()
        assert window.targets.tolist() == ids[np.array(places) + 1].tolist()
        assert window.first is (k == 0)
        seen.update(np.ravel(places).tolist())
    assert len(seen) == data  # every pair of neighbours is learned from sooner or later


def test_a_circular_place_is_restored():
    ids = np.arange(100)
    batches = Batches(ids, 3, 5, circular=True)
    for _ in range(3 * len(batches) + 1):
        next(batches)
    state = json.loads(json.dumps(batches.state_dict()))
    resumed = Batches(ids, 3, 5, circular=True)
    resumed.load_state_dict(state)
    a, b = next(batches), next(resumed)
    assert np.array_equal(a.inputs, b.inputs) and np.array_equal(a.targets, b.targets) and not b.first
    resumed.load_state_dict(state | {"position": 10**30})  # far out, and still somewhere in the text
    assert next(resumed).inputs.shape == (3, 5)
    refused(lambda: Batches(ids, 3, 5).load_state_dict(state), "nothing else")
    refused(lambda: batches.load_state_dict(Batches(ids, 3, 5).state_dict()), "circular", "nothing else")


def test_windows_are_copies():
    ids = np.arange(100)
    batches = Batches(ids, 2, 5)
    next(batches).inputs[:] = -1
    next(windows(ids, 2, 5)).targets[:] = -1
    assert np.array_equal(ids, np.arange(100))


def test_position_is_restored():
    ids = np.random.default_rng(2).integers(0, 50, 1000)
    batches = Batches(ids, 4, 8)
    for _ in range(len(batches) + 5):
        next(batches)
    state = json.loads(json.dumps(batches.state_dict()))
    resumed = Batches(ids.copy(), 4, 8)
    resumed.load_state_dict(state)
    assert resumed.position == batches.position and resumed.epoch == batches.epoch
    for _ in range(2 * len(batches)):
        a, b = next(batches), next(resumed)
        assert (
            np.array_equal(a.inputs, b.inputs) and np.array_equal(a.targets, b.targets) and a.first == b.first
        )


@pytest.mark.parametrize("position", [-1, 1.0, "3", None, True])
def test_position_is_validated(position):
    batches = Batches(np.arange(100), 2, 5)
    next(batches)
    refused(lambda: batches.load_state_dict(batches.state_dict() | {"position": position}), "position")
    assert batches.position == 1


def test_place_in_another_text_is_refused():
    ids = np.arange(100)
    state = Batches(ids, 2, 5).state_dict()
    other = ids.copy()
    other[50] = 7
    refused(
        lambda: Batches(other, 2, 5).load_state_dict(state), "another text or layout: checksum", "same text"
    )
    refused(lambda: Batches(ids, 5, 2).load_state_dict(state), "batch_size 2, not 5")
    refused(lambda: Batches(ids, 2, 4).load_state_dict(state), "time_steps 5, not 4")
    refused(lambda: Batches(ids, 2, 5).load_state_dict({"position": 1}), "nothing else")


@pytest.mark.parametrize(
    "make",
    [Batches, lambda *args: next(windows(*args)), lambda i, b, t: split(i, batch_size=b, time_steps=t)],
)
def test_impossible_shapes(make):
    ids = np.arange(100)
    refused(lambda: make(ids, 0, 5), "batch_size is a whole number of at least 1, not 0")
    refused(lambda: make(ids, 2, -1), "time_steps is a whole number of at least 1, not -1")
    refused(lambda: make(ids, 2.0, 5), "batch_size")
    refused(lambda: make(ids.reshape(10, 10), 2, 5), "shape (10, 10)")
    refused(lambda: make(ids.astype(float), 2, 5), "float64")


def test_numpy_integers_are_whole_numbers():
    assert len(Batches(np.arange(100, dtype=np.uint8), np.int64(2), np.int32(5))) == 9


# ---------------------------------------------------------------------------------------------------- windows


@pytest.mark.parametrize("n", [2, 3, 7, 64, 65, 66, 129, 1000])
@pytest.mark.parametrize("batch_size, time_steps", [(1, 1), (1, 25), (3, 1), (4, 5), (8, 8), (70, 3)])
def test_windows_predict_every_symbol_once(n, batch_size, time_steps):
    ids = np.arange(n) * 3
    seen: list[int] = []
    rows = None  # what must come next in each row, where the state is carried on
    for inputs, targets, first in windows(ids, batch_size, time_steps):
        assert inputs.shape == targets.shape and inputs.dtype == targets.dtype == np.int64
        assert inputs.shape[0] in (batch_size, 1) and 1 <= inputs.shape[1] <= time_steps
        assert np.array_equal(targets, inputs + 3)
        assert first if rows is None else first or np.array_equal(inputs[:, 0], rows)
        rows = targets[:, -1]
        seen += targets.ravel().tolist()
    assert sorted(seen) == ids[1:].tolist()


def test_windows_of_one_row_never_break():
    out = list(windows(np.arange(12), 1, 5))
    assert [window.inputs.shape for window in out] == [(1, 5), (1, 5), (1, 1)]
    assert [window.first for window in out] == [True, False, False]


def test_windows_leftover_starts_anew():
    out = list(windows(np.arange(15), 4, 2))
    assert [(window.inputs.shape, window.first) for window in out] == [
        ((4, 2), True), ((4, 1), False), ((1, 2), True)
    ]  # fmt: skip


def test_windows_of_too_little():
    refused(lambda: windows(np.arange(1), 1, 5), "too short to evaluate")
    refused(lambda: windows(np.arange(0), 1, 5), "too short to evaluate")


# ----------------------------------------------------------------------------------------------- all together


@pytest.mark.parametrize("level", LEVELS)
def test_from_file_to_batch(write, level):
    path = write("a.txt", SAMPLES["korean"] * 50)
    corpus = read_corpus(path, level=level)
    vocabulary = Vocabulary.from_text(corpus.text, level)
    train, valid = split(vocabulary.encode(corpus.text), batch_size=4, time_steps=5)
    window = next(Batches(train, 4, 5))
    assert window.inputs.shape == (4, 5) and window.inputs.max() < len(vocabulary)
    assert vocabulary.decode(train).startswith("나는 학교에 간다.")
    assert sum(window.targets.size for window in windows(valid, 4, 5)) == valid.size - 1

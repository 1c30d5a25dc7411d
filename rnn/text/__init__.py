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

from .batches import Batches, Window, split, windows
from .checks import TextError
from .corpus import EMBEDDED, Corpus, read_corpus
from .vocabulary import EOS, LEVELS, NORMAL_FORMS, UNKNOWN, Decoder, Ids, Level, NormalForm, Vocabulary

__all__ = [
    "EMBEDDED", "EOS", "LEVELS", "NORMAL_FORMS", "UNKNOWN",
    "Batches", "Corpus", "Decoder", "Ids", "Level", "NormalForm", "TextError", "Vocabulary", "Window",
    "read_corpus", "split", "windows",
]

"""14. Korean text: what a symbol is decides what can be learned from it.

A Hangul syllable is one character that is made of two or three letters, and Unicode has both: NFC composes 한 into
one code point, 0xAC00 + (initial · 21 + vowel) · 28 + final, of which there are 11 172; NFD takes it apart into two
or three letters, of which there are 67 (The Unicode Standard 15, 2022, section 3.12). In UTF-8 the syllable is three
bytes, and its letters are up to nine.

It matters, because Korean grammar looks at the last letter of a word: 책 "book" ends in a consonant and takes 을, 은
and 이; 나무 "tree" ends in a vowel and takes 를, 는 and 가. A model of syllables has to learn that for each syllable,
and knows nothing of those that it never saw in that place. A model of letters sees the consonant. The bytes have it
too, in a remainder of a division by 28, which is another matter.

Sentences are generated. Some nouns stand there only with particles that do not change (도, 만); after training each
model is asked which of the two forms follows them. With --data any Korean text is modelled at the four levels too.
"""

import unicodedata

import common
import numpy as np

import minigrad as mg
import rnn
from rnn.language_model import LanguageModel, evaluate
from rnn.text import Batches, Vocabulary, read_corpus
from rnn.train import Trainer

NOUNS = ["사과", "물", "책", "학교", "집", "꽃", "나무", "바다", "산", "강", "하늘", "달", "별", "고양이",
         "친구", "선생님", "학생", "음악", "노래", "영화", "시간", "아침", "저녁", "밤", "봄", "여름", "가을",
         "겨울", "눈", "비", "바람", "구름", "길", "문", "의자", "책상", "커피", "빵", "밥", "국", "김치", "우유",
         "설탕", "소금", "종이"]
UNSEEN = ["포도", "감", "두부", "떡", "그네", "탑", "토끼", "곰", "머리", "손", "치마", "양말", "배추", "콩",
          "대나무", "숲"]
VERBS = ["좋아해요", "봐요", "찾아요", "그려요", "기다려요", "생각해요"]
PAIRS = ("을를", "은는", "이가")  # after a consonant, after a vowel
LEVELS = {"syllables (NFC)": ("char", "NFC"), "letters (NFD)": ("char", "NFD"),
          "bytes of syllables": ("byte", "NFC"), "bytes of letters": ("byte", "NFD")}


def after_vowel(word: str) -> int:
    """1 where the last syllable of a word ends in a vowel: where it has no final letter."""
    return int((ord(word[-1]) - 0xAC00) % 28 == 0)


def sentence(rng: np.random.Generator) -> str:
    """Somebody likes something; or somebody too, or nothing but something."""
    words = []
    for pair, fixed in ((PAIRS[rng.integers(1, 3)], "도"), (PAIRS[0], "만")):
        changes = rng.random() < 0.6
        noun = rng.choice(NOUNS if changes else NOUNS + UNSEEN)
        words.append(noun + (pair[after_vowel(noun)] if changes else fixed))
    return " ".join([*words, rng.choice(VERBS)]) + "."


def right_forms(model: LanguageModel, vocabulary: Vocabulary, form: str, nouns: list[str]) -> float:
    """How often the right form is likelier than the wrong one, in %."""
    right = []
    for noun in nouns:
        for pair in PAIRS:
            before = "\n" if pair != PAIRS[0] else "\n친구는 "
            nats = []
            for particle in pair:
                ids = vocabulary.encode(unicodedata.normalize(form, f"{before}{noun}{particle} "))
                with mg.compiled(False):  # too short for that
                    nats.append(evaluate(model, ids).nats * (len(ids) - 1))  # they differ in the particle alone
            right.append(np.argmin(nats) == after_vowel(noun))
    return 100 * np.mean(right)


options = common.arguments(__doc__, data="a Korean text, in UTF-8")
rng = np.random.default_rng(options.seed)
common.title("What a symbol is")
for form in ("NFC", "NFD"):
    text = unicodedata.normalize(form, "한글")
    print(f"{form}: {len(text)} characters, {' '.join(f'U+{ord(c):04X}' for c in text)}; {len(text.encode())} bytes")

number, asked = (6000, 16) if options.full else (350, 4)
texts = {"generated sentences": ["\n".join(sentence(rng) for _ in range(n)) for n in (number, number // 10)]}
if options.data:
    text = read_corpus(options.data, limit=None if options.full else 20_000, normalize="NFC").text
    texts[options.data] = [text[:len(text) * 9 // 10], text[len(text) * 9 // 10:]]
found = {}
for name, (learn, valid) in texts.items():
    common.title(f"{name}: {len(learn):,} characters, such as {learn[:60].splitlines()[0]!r}")
    for level, (kind, form) in LEVELS.items():
        train, held = (unicodedata.normalize(form, text) for text in (learn, valid))
        vocabulary = Vocabulary.from_text(train + held, kind)
        ids, valid_ids = vocabulary.encode(train), vocabulary.encode(held)
        longer = len(ids) / len(learn)
        model = LanguageModel(len(vocabulary), rnn.GRU(48, 96 if options.full else 48, rng=options.seed), 48, rng=1)
        batches = Batches(ids, 16 if options.full else 6, round(24 * longer))  # as much text in a window at each level
        trainer = Trainer(model, mg.optim.Adam(model.parameters(), lr=5e-3), batches, clip_norm=1.0)
        curve = []
        for _ in range(8 if options.full else 2):
            for _ in range(len(batches)):
                trainer.step()
            score = evaluate(model, valid_ids, 8, 64)
            curve.append(score.bits * len(valid_ids) / len(valid))
        line = f"{level:20}{len(set(ids)):6} symbols, {longer:.2f} a character, {curve[-1]:.3f} bits a character"
        if name == "generated sentences":
            known, unseen = (right_forms(model, vocabulary, form, nouns) for nouns in (NOUNS[:asked], UNSEEN[:asked]))
            found[level] = curve, known, unseen
            line += f"; right forms: {known:3.0f} % of known nouns, {unseen:3.0f} % of those never seen with them"
        print(line)


def draw(left, right) -> None:
    for k, (level, (curve, known, unseen)) in enumerate(found.items()):
        left.plot(range(1, len(curve) + 1), curve, ".-", label=level)
        right.bar([k - 0.2, k + 0.2], [known, unseen], 0.38, color=[f"C{k}", "#B0B0B0"])
    left.set(xlabel="epoch", ylabel="bits per composed character in validation")
    left.legend()
    right.axhline(50, color="k", linestyle=":", linewidth=1)
    right.set_xticks(range(len(found)), [level.replace(" ", "\n", 1) for level in found])
    right.set(ylabel="right forms, %", title="Grey: nouns never seen with them")


common.plot(options.out, "14_korean.svg", draw, columns=2, size=(11, 4))
print("Look at the grey bars: only who sees letters can go by the last one in words never seen in that place.")

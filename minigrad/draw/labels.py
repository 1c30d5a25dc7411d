"""Words on the picture: operation symbols, subscripts, numbers, and user text made harmless."""

from __future__ import annotations

import math
import re
from typing import Any

LONGEST = 60

# Characters that XML 1.0 does not allow: control characters, lone surrogates, the two non-characters.
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

SYMBOLS = {
    "add": "+",
    "subtract": "−",
    "multiply": "×",
    "divide": "÷",
    "negative": "−",
    "sigmoid": "σ",
    "getitem": "gather",
    "square": "x²",
    "sqrt": "√",
    "reciprocal": "1/x",
    "absolute": "|x|",
    "constant_power": "^",
    "power": "^",
    "greater": ">",
    "less": "<",
    "equal": "=",
    "standardize": "standardise",
}

# Drawn as a small circle when nothing else has to be said.
CIRCLES = frozenset("+−×÷")

_SUBSCRIPTS = str.maketrans("0123456789+-", "₀₁₂₃₄₅₆₇₈₉₊₋")


def clean(text: str, longest: int = LONGEST) -> str:
    """User text as it may stand in a label: no characters that XML forbids, one line, not too long."""
    if len(text) <= longest and text.isprintable() and text.isascii():
        return text
    text = _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", text[: longest + 1])
    text = " ".join(text.split()) if any(c.isspace() for c in text) else text
    return text if len(text) <= longest else text[: longest - 1] + "…"


def subscript(number: int) -> str:
    """12 → ₁₂."""
    return str(number).translate(_SUBSCRIPTS)


def number(value: Any, digits: int = 3) -> str:
    """A number in few characters."""
    value = float(value)
    if value != value:
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:.{digits}g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        text = f"{mantissa}e{int(exponent)}"
    return text.replace("-", "−") if text.startswith("-") else text


def norm(value: float) -> str:
    """How the norm of a gradient is written under a value."""
    return "no gradient" if value == 0 else f"‖grad‖ {number(value, 2)}"


def shape_text(shape: tuple[int, ...], dtype: str = "") -> str:
    """NumPy's notation, and the dtype where it is given."""
    return f"{shape} {dtype}" if dtype else str(shape)


# -----------------------------------------------------------------------------------------------------------
# How wide a text is. No font is loaded: these are the advances of a wide sans-serif, so that text fits in
# any.
# -----------------------------------------------------------------------------------------------------------

_ADVANCES: dict[str, int] = {}
for _advance, _characters in {
    278: "ijl",
    300: "IJ",
    318: " ,.·:;'|!",
    360: "f/\\",
    390: "()[]tr",
    400: "₀₁₂₃₄₅₆₇₈₉₊₋ₜ",
    500: '-_‖“”"',
    530: "cszΣ∂",
    580: "kFLvxyv",
    612: "aeoTYPσ",
    636: "bdghnpqu0123456789$?",
    690: "ABCEKRSVXZ",
    760: "DGHNOQUφ",
    838: "w+=−×÷<>#~^…→",
    870: "Mm%",
    990: "W@m✂",
}.items():
    for _character in _characters:
        _ADVANCES[_character] = _advance


def text_width(text: str, size: float) -> float:
    """Width of one line of text, rounded up to what the widest usual font needs."""
    return sum(_ADVANCES.get(c) or (1000 if ord(c) > 0x2E7F else 640) for c in text) * size / 1000

# SPDX-License-Identifier: Apache-2.0
"""Words, numbers and what must not pass: the reading of text that prompts and checks share. Pure.

Comparing happens on folded words that know where they stood, so that every span found is a span of the text as it
was. It judges nothing and knows no passage.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import snowballstemmer

_HIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Co", "Cs"})
"""Controls, format marks (zero width, bidi, tags), private use and surrogates: nothing that a reader sees."""
_KEPT_CONTROLS: Final = frozenset("\n\t")
_HIDDEN_LETTERS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks without a shape, by Unicode's Default_Ignorable_Code_Point, and the empty Braille cell."""
_VARIATION: Final = ((0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
_SPECIAL: Final = re.compile(r"<(?=[|\uff5c/]?[^\s<>]{1,60}>)|<(?=<)|\[(?=/?[A-Z][A-Z_]{1,30}\])")
"""The first sign of what a tokenizer may read as a control token: `<|im_end|>`, `</s>`, `<<SYS>>`, `[INST]`."""
_WORD: Final = re.compile(
    r"\d+(?:[.,:/]\d+)*(?:(?:st|nd|rd|th)\b)?|[^\W\d_]+(?:['\u2019.][^\W\d_]+)*|[%\u00b0]",
)
_ORDINAL: Final = re.compile(r"(?<=\d)(?:st|nd|rd|th)$")
_UNITS: Final = {
    short: whole
    for whole, shorts in {
        "second": "s sec",
        "minute": "min mins",
        "hour": "h hr hrs",
        "gram": "g gr gramme",
        "kilogram": "kg kilo kilogramme",
        "millimetre": "mm millimeter",
        "centimetre": "cm centimeter",
        "metre": "m meter",
        "kilometre": "km kilometer",
        "millilitre": "ml milliliter",
        "litre": "l liter",
        "degree": "°",
        "percent": "%",
        "volt": "v",
        "watt": "w",
        "euro": "€ eur",
        "dollar": "$ usd",
    }.items()
    for short in shorts.split()
}
"""Units have short forms, but behind a number only: elsewhere `m` is a letter."""
_BEGIN: Final = re.compile('[.!?:\u2026\\n|\u2022"\u201c]')
_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_NUMBER_WORDS: Final = {
    word: str(number)
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty".split()
    )
} | {
    word: str(number)
    for number, word in zip(
        range(30, 100, 10), "thirty forty fifty sixty seventy eighty ninety".split(), strict=True
    )
}
_FUNCTION_WORDS: Final = frozenset(
    """a about above after again against all also am an and any are aren't as at be because been before being below
    between both but by can can't could couldn't did didn't do does doesn't doing don't down during each either else
    ever every few for from further get gets got had hadn't has hasn't have haven't having he he'd he'll he's her
    here hers herself him himself his how how's however i i'd i'll i'm i've if in into is isn't it it's its itself
    just let's like many may me might mine more most much must my myself need of off on once one only onto or other
    ought our ours ourselves out over own please quite rather really same shall she she'd she'll she's should
    shouldn't so some such tell than that that's the their theirs them themselves then there there's therefore these
    they they'd they'll they're they've this those though through thus to too under until up upon us very was wasn't
    we we'd we'll we're we've were weren't what what's when when's where where's whether which while who who's whom
    whose why why's will with would wouldn't yes yet you you'd you'll you're you've your yours yourself
    according answer based document documents context given information mentioned passage passages question source
    sources state stated states text""".split()
)
"""English words that say nothing about the subject, and those with which an answer talks of its sources."""
_NEGATIONS: Final = frozenset(
    "no not never none nobody nothing neither nor without cannot can't don't doesn't didn't isn't aren't wasn't "
    "weren't won't wouldn't shouldn't hasn't haven't hadn't couldn't mustn't".split()
)


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word of a text: `form` is what is compared, `start` and `end` are its place."""

    form: str
    raw: str
    start: int
    end: int
    name: bool
    """Begins with a capital, and not because a sentence begins there."""

    @property
    def number(self) -> bool:
        """Tell whether it is a number."""
        return self.form[0].isdigit()


def clean(text: str, *, tokens: Collection[str] = ()) -> str:
    """Return text as a prompt may hold it: nothing hidden, and nothing that a tokenizer reads as control.

    `tokens` are the model's own special tokens where they are known; the usual forms are met without. A blank is
    put behind the first sign: the reader still sees what was written.
    """
    seen = _SPECIAL.sub(lambda found: found[0] + " ", visible(text))
    for token in sorted({token for token in tokens if len(token) > 1}, key=len, reverse=True):
        seen = seen.replace(token, f"{token[0]} {token[1:]}")
    return seen


def visible(text: str) -> str:
    """Return the text without what a reader can't see."""
    return "".join(letter for letter in text if not _is_hidden(letter))


def _is_hidden(letter: str) -> bool:
    if letter in _KEPT_CONTROLS:
        return False
    point = ord(letter)
    return (
        unicodedata.category(letter) in _HIDDEN_CATEGORIES
        or letter in _HIDDEN_LETTERS
        or any(first <= point <= last for first, last in _VARIATION)
    )


def words(text: str) -> tuple[Word, ...]:
    """Return the words of a text in order, in the form in which they are compared."""
    return tuple(_words(text))


def _words(text: str) -> Iterable[Word]:
    last, counted = 0, False
    for found in _WORD.finditer(text):
        between = text[last : found.start()]
        raw = found[0]
        form = fold(_unit(raw) if counted else raw)
        counted = form[0].isdigit()
        begins = last == 0 or _BEGIN.search(between) is not None
        last = found.end()
        yield Word(form=form, raw=raw, start=found.start(), end=last, name=raw[0].isupper() and not begins)


def _unit(raw: str) -> str:
    folded = raw.casefold()
    return _UNITS.get(folded, _UNITS.get(folded.removesuffix("s"), raw))


def content(text: str) -> tuple[Word, ...]:
    """Return the words that carry what is said."""
    return tuple(word for word in words(text) if is_content(word))


def is_content(word: Word) -> bool:
    """Tell whether a word says something about the subject."""
    return word.number or _plain(word.raw) not in _FUNCTION_WORDS


def is_negation(word: Word) -> bool:
    """Tell whether a word denies."""
    return _plain(word.raw) in _NEGATIONS


def _plain(raw: str) -> str:
    return unicodedata.normalize("NFKC", raw).replace("\u2019", "'").casefold()


@lru_cache(maxsize=65536)
def fold(raw: str) -> str:
    """Return the form in which a word is compared: case, endings and the spelling of numbers make no difference."""
    plain = _plain(raw)
    if plain[0].isdigit():
        return _THOUSANDS.sub("", _ORDINAL.sub("", plain))
    if plain in _NUMBER_WORDS:
        return _NUMBER_WORDS[plain]
    bare = plain.removesuffix("'s").replace(".", "")
    # A stemmer holds the word it works on: one for each call, so that threads can't mix theirs.
    return snowballstemmer.stemmer("english").stemWord(bare) or plain

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

from nimblet_relevance.vocabulary import CURRENCIES, FUNCTION_WORDS, NEGATIONS, NUMBER_WORDS, UNITS

_HIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Co", "Cs"})
"""Controls, format marks (zero width, bidi, tags), private use and surrogates: nothing that a reader sees."""
_KEPT_CONTROLS: Final = frozenset("\n\t")
_HIDDEN_LETTERS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks without a shape, by Unicode's Default_Ignorable_Code_Point, and the empty Braille cell."""
_VARIATION: Final = ((0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
_DOUBTFUL: Final = re.compile(
    "[^\n\t -~\u00a0-\u00ac\u00ae-\u034e\u0370-\u0377\u037a-\u037f\u0384-\u052f\u3041-\u3096\u30a0-\u30ff"
    "\u4e00-\u9fff\uac00-\ud7a3]"
)
"""All but letters and signs that are surely seen: looked at one by one, a megabyte took seconds, and whoever else
asked waited."""
_SPECIAL: Final = re.compile(r"<(?=[|\uff5c/]?[^\s<>]{1,60}>)|<(?=<)|\[(?=/?[A-Z][A-Z_]{1,30}\])")
"""The first sign of what a tokenizer may read as a control token: `<|im_end|>`, `</s>`, `<<SYS>>`, `[INST]`."""
_WORD: Final = re.compile(
    r"(?:(?<![^\s(|])(?<!\d )[-\u2212])?[\d\u2080-\u2089]+(?:[.,:/]\d+)*(?:(?:st|nd|rd|th)\b)?"
    r"|[^\W\d_\u2080-\u2089]+(?:['\u2019.][^\W\d_\u2080-\u2089]+)*|[%\u00b0\u20ac$\u00a3]",
)
"""A minus is one where nothing stands before it: elsewhere it may part a range. Lowered digits are digits, those
of formulas; raised ones are part of their unit."""
_CODE: Final = re.compile(r"(?![vV]\d)[^\W\d_\u2080-\u2089]+[\d\u2080-\u2089][^\W_]*(?:\.\d+)*")
"""Letters and digits right behind them: `E14`, `CO2`, `B747`; not `v4.2`, a version, nor `5G`, maybe a unit."""
_ORDINAL: Final = re.compile(r"(?<=\d)(?:st|nd|rd|th)$")
_BEGIN: Final = re.compile('[.!?:\u2026\\n|\u2022"\u201c]')
_REMEMBERED: Final = 64
"""Letters of a word that is remembered: of longer ones a few thousand questions could fill the memory."""
_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


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
        return _is_number(self.form)

    @property
    def code(self) -> bool:
        """Tell whether it is a code, of letters and digits: one sign changed, it is another's."""
        return not self.number and any(sign.isdigit() for sign in self.form)


def clean(text: str, *, tokens: Collection[str] = ()) -> str:
    """Return text as a prompt may hold it: nothing hidden, and nothing that a tokenizer reads as control.

    `tokens` are the model's own special tokens where they are known; the usual forms are met without. A blank is
    put behind the first sign: the reader still sees what was written.
    """
    seen = _SPECIAL.sub(lambda found: found[0] + " ", visible(text))
    breakable = sorted(token for token in tokens if len(token) > 1 and not token[0].isspace())
    while any(token in seen for token in breakable):  # breaking one may close up another
        for token in breakable:
            seen = seen.replace(token, f"{token[0]} {token[1:]}")
    return seen


def visible(text: str) -> str:
    """Return the text without what a reader can't see."""
    return _DOUBTFUL.sub(_seen, text)


def _seen(found: re.Match[str]) -> str:
    return "" if _is_hidden(found[0]) else found[0]


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
    """Return the words of a text in order, in the form in which they are compared.

    A code is a word beside its parts: these find it in another spelling, it tells that they belong together.
    """
    return tuple(_words(text))


def _words(text: str) -> Iterable[Word]:
    last, counted = 0, False
    for found in _WORD.finditer(text):
        between = text[last : found.start()]
        raw = found[0]
        form = fold(_unit(raw) if counted or raw in CURRENCIES else raw)
        counted = _is_number(form)
        begins = last == 0 or _BEGIN.search(between) is not None
        inside = last == found.start() and last > 0
        last = found.end()
        name = raw[0].isupper() and not begins
        yield Word(form=form, raw=raw, start=found.start(), end=last, name=name)
        code = None if inside or counted else _CODE.match(text, found.start())
        if code is not None:
            yield Word(form=fold(code[0]), raw=code[0], start=code.start(), end=code.end(), name=name)


def _unit(raw: str) -> str:
    folded = raw.casefold()
    return UNITS.get(folded, UNITS.get(folded.removesuffix("s"), raw))


def content(text: str) -> tuple[Word, ...]:
    """Return the words that carry what is said."""
    return tuple(word for word in words(text) if is_content(word))


def _is_number(form: str) -> bool:
    return form.removeprefix("-")[:1].isdigit()


def is_content(word: Word) -> bool:
    """Tell whether a word says something about the subject."""
    return word.number or _plain(word.raw) not in FUNCTION_WORDS


def is_negation(word: Word) -> bool:
    """Tell whether a word denies."""
    return _plain(word.raw) in NEGATIONS


def _plain(raw: str) -> str:
    return unicodedata.normalize("NFKC", raw).replace("\u2019", "'").casefold()


def fold(raw: str) -> str:
    """Return what is compared of a word: case, endings and the spelling of numbers make no difference."""
    return _known(raw) if len(raw) <= _REMEMBERED else _folded(raw)


@lru_cache(maxsize=65536)
def _known(raw: str) -> str:
    return _folded(raw)


def _folded(raw: str) -> str:
    plain = _plain(raw).replace("\u2212", "-")
    if _is_number(plain):
        return _THOUSANDS.sub("", _ORDINAL.sub("", plain))
    if plain in NUMBER_WORDS:
        return NUMBER_WORDS[plain]
    bare = plain.removesuffix("'s")
    if not bare[-1:].isdigit():  # the dot of a code parts its numbers
        bare = bare.replace(".", "")
    # A stemmer holds the word it works on: one for each call, so that threads can't mix theirs.
    return snowballstemmer.stemmer("english").stemWord(bare) or plain

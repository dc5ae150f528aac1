# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: SIM905 - lists of words are read and edited as text
"""English words that comparing needs to know: those without content, denials, numbers, units. Data only.

Other languages are compared without them: their function words count as content, which makes checks stricter.
"""

from typing import Final

UNITS: Final = {
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
        "pound": "£ gbp",
    }.items()
    for short in shorts.split()
}
"""Units have short forms, but behind a number only: elsewhere `m` is a letter."""
CURRENCIES: Final = frozenset("€$£")
"""Units before a number as well as behind it."""
TENS: Final = ("thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NUMBER_WORDS: Final = {
    word: str(number)
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty".split()
    )
} | {word: str(number) for number, word in zip(range(30, 100, 10), TENS, strict=True)}
FUNCTION_WORDS: Final = frozenset(
    """a about above after again against all also am an and any are aren't as at be because been before being
    below between both but by can can't could couldn't did didn't do does doesn't doing don't down during
    each either else ever every few for from further get gets got had hadn't has hasn't have haven't having
    he he'd he'll he's her here hers herself him himself his how how's however i i'd i'll i'm i've if in into
    is isn't it it's its itself just let's like many may me might mine more most much must my myself need of
    off on once one only onto or other ought our ours ourselves out over own please quite rather really same
    shall she she'd she'll she's should shouldn't so some such tell than that that's the their theirs them
    themselves then there there's therefore these they they'd they'll they're they've this those though
    through thus to too under until up upon us very was wasn't we we'd we'll we're we've were weren't what
    what's when when's where where's whether which while who who's whom whose why why's will with would
    wouldn't yes yet you you'd you'll you're you've your yours yourself according answer based document
    documents context given information mentioned passage passages question source sources state stated
    states text""".split()
)
"""English words that say nothing about the subject, and those with which an answer talks of its sources."""
NEGATIONS: Final = frozenset(
    "no not never none nobody nothing neither nor without cannot can't don't doesn't didn't isn't aren't wasn't "
    "weren't won't wouldn't shouldn't hasn't haven't hadn't couldn't mustn't".split()
)

# SPDX-License-Identifier: Apache-2.0
"""What is looked for of a Secret's value, in all the forms in which it may stand somewhere."""

import base64
import json
from urllib.parse import quote, urlencode

from hypothesis import given
from hypothesis import strategies as st

from e2e.support.needles import SHORTEST, forms, spilled, words

TOKEN = "hf_canary/7f3c+9a5e=1b"
WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\"',"), min_size=SHORTEST)


def test_words_are_what_nobody_else_may_know() -> None:
    assert words(f"# ours\n{TOKEN}\n") == {TOKEN}
    login = {"auths": {"registry.of.somebody.example:5000": {"auth": "bm9ib2R5OnNlY3JldA=="}}}
    assert words(json.dumps(login)) == {"bm9ib2R5OnNlY3JldA=="}
    assert words(json.dumps({"key": TOKEN, "access": ["everyone"]})) == {TOKEN}
    pem = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----\n"
    assert words(pem) == {"MIGHAgEAMBMGByqGSM49"}
    assert words("reader") == frozenset()


@given(word=WORDS, before=st.text(max_size=9), after=st.text(max_size=9))
def test_a_word_is_found_in_every_form(word: str, before: str, after: str) -> None:
    needles = dict.fromkeys(forms(word), "s/key")
    texts = {
        "clear": f"{before}{word}{after}",
        "basic": base64.b64encode(f"{before}{word}{after}".encode()).decode(),
        "url": f"https://host.example/{quote(word, safe='')}",
        "query": f"?{urlencode({'token': word})}",
    }
    assert spilled(needles, texts) == [f"s/key in {place}" for place in sorted(texts)]


def test_what_is_told_names_no_value() -> None:
    (told,) = spilled(dict.fromkeys(forms(TOKEN), "team/hub/token"), {"the log": f"GET with {TOKEN}"})
    assert told == "team/hub/token in the log"
    assert spilled(dict.fromkeys(forms(TOKEN), "team/hub/token"), {"the log": "GET with a token"}) == []

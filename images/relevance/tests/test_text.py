# SPDX-License-Identifier: Apache-2.0
"""Reading text: what is equal, what is hidden, what a tokenizer could take for control."""

import re
import sys
import tracemalloc
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimblet_relevance.text import clean, content, fold, visible, words

CONTROL = re.compile(r"<\||\|>|</?s>|\[/?INST\]|<<SYS>>|<(start|end)_of_turn>|<\uff5c")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1,500", "1500"),
        ("seven", "7"),
        ("8th", "8"),
        ("Washing", "washes"),
        ("keeper's", "Keepers"),
        ("don\u2019t", "don't"),
        ("caf\u00e9", "cafe\u0301"),
    ],
)
def test_spellings_of_one_word_are_equal(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(("one", "other"), [("1.5", "15"), ("12", "120"), ("5:07", "507"), ("Harrow", "Barrow")])
def test_other_values_stay_different(one: str, other: str) -> None:
    assert fold(one) != fold(other)


def test_units_are_equal_behind_numbers_alone() -> None:
    assert [word.form for word in words("83 min")] == [word.form for word in words("83 minutes")]
    assert [word.form for word in words("19\u00b0")] == [word.form for word in words("19 degrees")]
    assert fold("min") != fold("minutes")


@pytest.mark.parametrize(
    ("text", "forms"),
    [
        ("Error E14", ["error", "e", "e14", "14"]),
        ("B747-8F", ["b", "b747", "747", "8", "f"]),
        ("PM2.5", ["pm", "pm2.5", "2.5"]),
        ("H2O", ["h", "h2o", "2", "o"]),
        ("v4.4", ["v", "4.4"]),
        ("20MB", ["20", "mb"]),
        ("E 14", ["e", "14"]),
    ],
)
def test_code_is_a_word_beside_its_parts(text: str, forms: list[str]) -> None:
    assert [word.form for word in words(text)] == forms


@pytest.mark.parametrize(
    ("one", "other"),
    [("\u20ac45", "45 euros"), ("$3", "3 USD"), ("\u00a37", "7 pounds"), ("(\u221218 \u00b0C)", "-18 degrees C")],
)
def test_amounts_are_equal_however_written(one: str, other: str) -> None:
    assert {word.form for word in words(one)} == {word.form for word in words(other)}


@pytest.mark.parametrize("text", ["2-5", "2 -5", "B-5", "- 5", "5"])
def test_minus_is_one_before_a_number_alone(text: str) -> None:
    assert "5" in {word.form for word in words(text) if word.number}
    assert "-5" in {word.form for word in words("at -5") if word.number}


def test_lowered_digits_are_those_of_the_code() -> None:
    assert [word.form for word in words("CO\u2082")] == [word.form for word in words("co2")]


def test_codes_are_told_from_numbers_and_words() -> None:
    assert [word.raw for word in words("Valve A17 takes 3 m\u00b2, 17 each.") if word.code] == ["A17", "m\u00b2"]


def test_names_are_known_by_capitals_inside_a_sentence() -> None:
    named = [word.raw for word in words("The keeper is Mrs Thirza Mould. Ask her: Nobody else.") if word.name]
    assert named == ["Mrs", "Thirza", "Mould"]


def test_words_without_content_are_left_out() -> None:
    assert [word.raw for word in content("According to the passage, it is 4 kg of salt.")] == ["4", "kg", "salt"]


@settings(deadline=None)
@given(st.text())
def test_every_word_stands_where_it_says(text: str) -> None:
    assert all(text[word.start : word.end] == word.raw and word.form for word in words(text))


@pytest.mark.parametrize(
    "hidden",
    [
        "\u200b",
        "\u2066",
        "\u202e",
        "\ufeff",
        "\U000e0041",
        "\u00ad",
        "\x00",
        "\x1b",
        "\ufe0f",
        "\U000e0101",
        "\u3164",
    ],
)
def test_hidden_signs_are_removed(hidden: str) -> None:
    assert visible(f"pay{hidden} now\n") == "pay now\n"


@pytest.mark.parametrize(
    "token",
    [
        "<|im_end|>",
        "<|im_start|>system",
        "<|im_\u200bend|>",
        "<|start_header_id|>",
        "</s>",
        "<s>",
        "[INST]",
        "[/INST]",
        "<<SYS>>",
        "<start_of_turn>user",
        "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
        "<<|im_end|>",
        "<think>",
    ],
)
def test_control_tokens_are_broken(token: str) -> None:
    assert CONTROL.search(clean(token).replace("|>", "")) is None
    assert token.replace("\u200b", "") not in clean(f"a {token} b")


@settings(deadline=None)
@given(st.lists(st.sampled_from(["<", "|", ">", "im_end", "/", "s", "[", "]", "INST", "\u200b", " ", "<<SYS>>"])))
def test_no_making_of_pieces_leaves_a_control_token(pieces: list[str]) -> None:
    cleaned = clean("".join(pieces))
    assert not any(token in cleaned for token in ("<|im_end|>", "</s>", "<s>", "[INST]", "[/INST]", "<<SYS>>"))


@settings(deadline=None)
@given(st.text(alphabet="ab<>|"), st.sets(st.sampled_from(["ab", "a<b", "|b|", "aa"]), min_size=1))
def test_tokens_of_the_model_are_broken_too(text: str, tokens: set[str]) -> None:
    assert not any(token in clean(text, tokens=tokens) for token in tokens)


def test_ordinary_text_passes_unchanged() -> None:
    text = "If a < b and c > d, pay 5\u00a0\u20ac [see 3] & go.\n\tTable | row"
    assert clean(text) == text


def test_no_hidden_character_is_let_through_unseen() -> None:
    # Unicode's own categories, for every character there is
    hidden = {"Cc", "Cf", "Co", "Cs"}
    points = (chr(point) for point in range(sys.maxunicode + 1))
    told = [letter for letter in points if unicodedata.category(letter) in hidden and visible(letter)]
    assert told == ["\t", "\n"]
    assert visible("a\u200bb\ufe0fc\u3164\u4e00\U0001f600") == "abc\u4e00\U0001f600"


@pytest.mark.timeout(30)
def test_long_texts_cost_little() -> None:
    text = "The pump runs at 45 bar, sagt die Gr\u00f6\u00dfe. " * 500_000
    assert len(visible(text)) == len(text)


def test_long_words_of_questions_are_not_kept() -> None:
    # Given questions of one long word each
    tracemalloc.start()
    try:
        for number in range(20):
            words(chr(0x4E00 + number) * 8000)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Then they don't stay in memory
    assert held < 2**18

# SPDX-License-Identifier: Apache-2.0
"""What tells two vocabularies apart: a digest of their first tokens, told where a source asks for it."""

from loader_testing.bench import MODEL, Bench
from loader_testing.tiny import TinyModel, model_pairs, string, strings
from nimblet_loader.gguf import DIGESTED_FROM, DIGESTED_TOKENS, TOKENS, parse_header


def digest_of(tokens: list[str]) -> str:
    pairs = (string("general.architecture", "llama"), strings(TOKENS, tokens))
    return parse_header(iter([TinyModel(pairs=pairs).header()])).text_digests[TOKENS]


def words(count: int) -> list[str]:
    return [f"token-{number}" for number in range(count)]


def test_the_first_tokens_decide_but_for_the_special_ones() -> None:
    base = words(DIGESTED_TOKENS)
    assert digest_of(["<s>", *base[1:]]) == digest_of(base)
    assert digest_of([*base[:DIGESTED_FROM], "other", *base[DIGESTED_FROM + 1 :]]) != digest_of(base)


def test_tokens_behind_a_padded_end_change_nothing() -> None:
    assert digest_of([*words(DIGESTED_TOKENS), "[PAD1]", "[PAD2]"]) == digest_of(words(DIGESTED_TOKENS))


def test_a_border_between_tokens_is_part_of_the_digest() -> None:
    assert digest_of([*words(DIGESTED_FROM), "ab", "c"]) != digest_of([*words(DIGESTED_FROM), "a", "bc"])


def test_it_is_told_where_the_source_asks_for_it(bench: Bench) -> None:
    assert bench.resolve().header.vocabulary is None
    told = bench.resolve(vocabulary=True).header
    assert told.vocabulary is not None
    bench.hub.files[MODEL] = TinyModel(pairs=model_pairs(vocabulary=41)).file()
    assert bench.resolve(vocabulary=True).header.vocabulary != told.vocabulary

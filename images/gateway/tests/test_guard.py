# SPDX-License-Identifier: Apache-2.0
"""A classifier as guard, and keys' files: what is let through and what denies."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway_testing.upstream import ModelServer
from nimblet_gateway.config import GuardConfig
from nimblet_gateway.guard import Guard, Judged
from nimblet_gateway.keys import LOOK_SECONDS, KeyRing, digest_of
from nimblet_gateway.web import Failed, opened
from retriever_testing.process import serving

NOW = datetime(2026, 6, 1, tzinfo=UTC)
X = Judged(messages=[{"role": "user", "content": "x"}])


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("scores", "allowed"), [([3.0, -3.0], True), ([-3.0, 3.0], False), ([0.0, 0.0], False), ([0.1, 0.0], True)]
)
async def test_classifier_blocks_from_its_threshold_on(scores: list[float], *, allowed: bool) -> None:
    model = ModelServer(scores=scores)
    with serving(model.app()) as url:
        async with opened() as client:
            guard = Guard(client=client, config=_classifier(url))
            assert await guard.allows(X, {}) is allowed


@pytest.mark.asyncio
@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
async def test_classifier_judges_every_text_of_the_conversation(role: str) -> None:
    # Given a classifier that knows an attack by a word, and one that hides it before a harmless last turn
    def scores(text: str) -> list[float]:
        return [-3.0, 3.0] if "attack" in text else [3.0, -3.0]

    model = ModelServer(scored=scores)
    turns = [{"role": role, "content": "the attack"}, {"role": "user", "content": ""}]
    with serving(model.app()) as url:
        async with opened() as client:
            guard = Guard(client=client, config=_classifier(url))
            asked = Judged(messages=[*turns, {"role": "user", "content": "go on"}])
            assert not await guard.allows(asked, {})
            # and of an answer no more than the answer: what was asked was judged before
            for text, allowed in (("fine", True), ("attack", False)):
                said = [*turns, {"role": "assistant", "content": text}]
                assert await guard.allows(Judged(messages=said, is_answer=True), {}) is allowed


@pytest.mark.asyncio
@pytest.mark.parametrize("scores", [[], [1.0], [1.0, 2.0, 3.0]])
async def test_classifier_with_other_labels_gives_no_verdict(scores: list[float]) -> None:
    model = ModelServer(scores=scores)
    with serving(model.app()) as url:
        async with opened() as client:
            with pytest.raises(Failed):
                await Guard(client=client, config=_classifier(url)).allows(X, {})


@pytest.mark.parametrize("blocked", [set(), {"unknown"}])
def test_classifier_must_name_labels_it_has(blocked: set[str]) -> None:
    with pytest.raises(ValidationError):
        GuardConfig.model_validate(
            {"url": "http://g/v1", "name": "g", "task": "Classify", "labels": ["ok"], "blocked": blocked}
        )


def _classifier(url: str) -> GuardConfig:
    return GuardConfig(
        url=f"{url}/v1", name="g", task="Classify", labels=("safe", "attack"), blocked=frozenset({"attack"})
    )


def test_keys_are_read_from_a_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Given a plain key, records, and what can't be read
    clock = [0.0]
    ring = KeyRing(tmp_path, now=lambda: NOW, clock=lambda: clock[0])
    assert ring.find("Bearer plain") is None
    (tmp_path / "plain").write_text("plain\n")
    (tmp_path / "hashed").write_text(
        f'{{"sha256": "{digest_of("hashed")}", "access": ["public"], "tokensPerMinute": 5}}'
    )
    (tmp_path / "old").write_text('{"key": "old", "expires": "2026-05-31T00:00:00Z"}')
    (tmp_path / "broken").write_text('{"key": "broken", "unknown": 1}')
    (tmp_path / "empty").write_text("")
    (tmp_path / "..data").mkdir()
    # When the folder is looked at again
    clock[0] += LOOK_SECONDS
    # Then what is whole counts
    plain, hashed = ring.find("Bearer plain"), ring.find("bearer hashed")
    assert plain is not None
    assert (plain.id, plain.access) == ("plain", None)
    assert hashed is not None
    assert (hashed.access, hashed.tokens_per_minute) == (frozenset({"public"}), 5)
    for key in ("old", "broken", "", "plain\n x", "hashed2"):
        assert ring.find(f"Bearer {key}") is None
    assert ring.find("Basic plain") is None
    assert "unknown" in caplog.text
    # When it is gone, then nobody may ask
    for path in [path for path in tmp_path.iterdir() if path.is_file()]:
        path.unlink()
    clock[0] += LOOK_SECONDS
    assert ring.find("Bearer plain") is None
    assert not ring.look()
    assert all(key not in caplog.text for key in ("hashed2", digest_of("hashed")))

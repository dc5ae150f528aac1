# SPDX-License-Identifier: Apache-2.0
"""Certificates as clients verify them, what is told of those that are stored, and when an authority changes."""

import base64
import os
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nimblet.cluster.authority import due, signer
from nimblet.cluster.pki import (
    ENTROPY_BYTES,
    Authority,
    BadCertificateError,
    authority_facts,
    bundle_of,
    certificate_facts,
    issue,
    leaf_of,
    make_authority,
    secret_data,
    text_hash,
)
from nimblet.settings import TLS
from tests.builders import NOW

NAMES = ("m-model", "m-model.team.svc")
DAY = 86400
LIVES = TLS(mode="OwnCA", certificate_seconds=90 * DAY, authority_seconds=900 * DAY, overlap_seconds=3600)


def an_authority(now: datetime = NOW, *, seconds: int = 900 * DAY) -> Authority:
    return make_authority(entropy=os.urandom(ENTROPY_BYTES), now=now, seconds=seconds)


def test_facts_of_what_was_issued() -> None:
    ours, other = an_authority(), an_authority()
    leaf = issue(ours, names=NAMES, entropy=os.urandom(ENTROPY_BYTES), now=NOW, seconds=DAY)
    data = secret_data(leaf, bundle_of([other, ours]))
    found = certificate_facts(data, [other, ours])
    assert found.dns_names == NAMES
    assert found.not_before <= NOW < found.not_after == (NOW + timedelta(days=1)).replace(microsecond=0)
    assert {found.issuer} == authority_facts([ours]).trusted
    assert found.bundle == authority_facts([other, ours]).bundle == text_hash(bundle_of([other, ours]))
    assert certificate_facts(data, [other]).issuer == ""
    assert leaf_of(data) == leaf


def test_a_key_is_made_of_the_given_randomness_alone() -> None:
    entropy = bytes(range(ENTROPY_BYTES))
    first, second = (make_authority(entropy=entropy, now=NOW, seconds=DAY * 4) for _ in range(2))
    assert first.key == second.key
    assert first.key != an_authority().key
    with pytest.raises(ValueError, match="expected 60 random bytes, found 32"):
        make_authority(entropy=entropy[:32], now=NOW, seconds=DAY)


def test_no_key_is_shown() -> None:
    ours = an_authority()
    leaf = issue(ours, names=NAMES, entropy=os.urandom(ENTROPY_BYTES), now=NOW, seconds=DAY)
    assert "PRIVATE" not in repr((ours, leaf))


def test_a_certificate_never_outlives_its_authority() -> None:
    short = an_authority(seconds=DAY)
    leaf = issue(short, names=NAMES, entropy=os.urandom(ENTROPY_BYTES), now=NOW, seconds=90 * DAY)
    found = certificate_facts(secret_data(leaf, bundle_of([short])), [short])
    assert found.not_after == short.not_after


def test_strict_verification_takes_the_chain() -> None:
    """As Python 3.13 verifies by default."""
    ours = an_authority()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=bundle_of([ours]))
    assert context.cert_store_stats()["x509_ca"] == 1


def _shaken(authority: Authority, folder: Path, *, peers: bool) -> None:
    """One server of a set greets another, each verifying the other; ssl's errors where one does not."""
    names = ("docs-qdrant", "*.docs-qdrant-headless.team.svc")
    leaf = issue(
        authority, names=names, entropy=os.urandom(ENTROPY_BYTES), now=datetime.now(UTC), seconds=DAY, peers=peers
    )
    for name, text in (("crt", leaf.certificate), ("key", leaf.key)):
        (folder / name).write_text(text)
    contexts = [ssl.SSLContext(side) for side in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER)]
    for context in contexts:
        context.load_cert_chain(folder / "crt", folder / "key")
        context.load_verify_locations(cadata=bundle_of([authority]))
        context.verify_mode = ssl.CERT_REQUIRED
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = contexts[0].wrap_bio(back, there, server_hostname="docs-qdrant-1.docs-qdrant-headless.team.svc")
    asked = contexts[1].wrap_bio(there, back, server_side=True)
    for turn in (asking, asked, asking, asked):
        with suppress(ssl.SSLWantReadError):
            turn.do_handshake()


def test_servers_verify_each_other_by_the_names_of_their_pods(tmp_path: Path) -> None:
    ours = an_authority(datetime.now(UTC))
    _shaken(ours, tmp_path, peers=True)
    with pytest.raises(ssl.SSLError, match="unsuitable certificate purpose"):
        _shaken(ours, tmp_path, peers=False)


def _tampered() -> list[dict[str, str]]:
    ours = an_authority()
    one, two = (
        secret_data(
            issue(ours, names=NAMES, entropy=os.urandom(ENTROPY_BYTES), now=NOW, seconds=DAY), bundle_of([ours])
        )
        for _ in range(2)
    )
    text = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").decode()
    return [
        {},
        {**one, "tls.key": two["tls.key"]},
        {**one, "tls.crt": text},
        {**one, "tls.key": text},
        {**one, "tls.crt": "%%%"},
        {**one, "tls.crt": base64.b64encode(b"\xff\xfe").decode()},
    ]


@pytest.mark.parametrize("data", _tampered())
def test_what_is_no_pair_is_told(data: dict[str, str]) -> None:
    with pytest.raises(BadCertificateError):
        certificate_facts(data, [])


def test_an_authority_is_renewed_at_two_thirds_and_signs_when_clients_know_it() -> None:
    old = an_authority()
    later = NOW + timedelta(days=600)
    assert due([], NOW, LIVES) == ()
    assert due([old], later - timedelta(seconds=1), LIVES) is None
    assert due([old], later, LIVES) == (old,)
    new = an_authority(later)
    both = (old, new)
    assert due(both, later, LIVES) is None
    assert signer(both, later + timedelta(seconds=3599), LIVES) is old
    assert signer(both, later + timedelta(seconds=3600), LIVES) is new
    assert due(both, old.not_after, LIVES) is None
    assert due(both, later + timedelta(days=600), LIVES) == (new,)  # the old one has ended by then


def test_the_first_authority_signs_at_once() -> None:
    only = an_authority()
    assert signer([only], NOW, LIVES) is only


@pytest.mark.parametrize(
    "lives",
    [
        {"certificate_seconds": 100, "authority_seconds": 399},
        {"certificate_seconds": 100, "authority_seconds": 400, "overlap_seconds": 60},
    ],
)
def test_lives_that_do_not_fit_are_refused(lives: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"tls\."):
        TLS.model_validate({"mode": "OwnCA", **lives})

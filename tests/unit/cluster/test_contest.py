# SPDX-License-Identifier: Apache-2.0
"""The memory of fights, in virtual time."""

from dataclasses import dataclass

import pytest

from nimblet.cluster.contest import CALM_SECONDS, ChildKey, Contest, ContestLedger
from nimblet.cluster.drift import Drift

KEY = ChildKey(owner_uid="u", kind="Service", name="s")
RIVAL = {".spec.type": "rival"}


@dataclass
class Time:
    seconds: float = 0.0

    def read(self) -> float:
        return self.seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def ledger(time: Time) -> ContestLedger:
    return ContestLedger(time.read)


def test_three_repairs_in_vain_are_a_lost_contest(ledger: ContestLedger) -> None:
    for _ in range(3):
        assert ledger.lost(KEY, "h", RIVAL) is None
        ledger.repaired(KEY, "h", RIVAL)
        ledger.agreed(KEY)  # right after a repair all is well; that is no end of the fight

    assert ledger.lost(KEY, "h", RIVAL) == Contest(field=".spec.type", manager="rival")


def test_fights_over_different_fields_are_not_added(ledger: ContestLedger) -> None:
    for field in (".a", ".b", ".c"):
        ledger.repaired(KEY, "h", [field])

    assert ledger.lost(KEY, "h", {".d": "rival", ".a": "rival"}) is None


def test_a_fight_that_rests_is_forgotten(ledger: ContestLedger, time: Time) -> None:
    for _ in range(3):
        ledger.repaired(KEY, "h", RIVAL)
    time.seconds += CALM_SECONDS + 1

    assert ledger.lost(KEY, "h", RIVAL) is None


def test_a_contest_given_up_lasts_until_the_rival_agrees(ledger: ContestLedger, time: Time) -> None:
    ledger.give_up(KEY, "h", Contest(field=".spec.type", manager="rival"))
    time.seconds += CALM_SECONDS * 10
    assert ledger.contest(KEY, "h") is not None

    ledger.agreed(KEY)

    assert ledger.contest(KEY, "h") is None


def test_another_manifest_is_a_new_chance(ledger: ContestLedger) -> None:
    ledger.give_up(KEY, "h", Contest(field=".spec.type", manager="rival"))

    assert ledger.contest(KEY, "other") is None
    assert ledger.lost(KEY, "other", RIVAL) is None


def test_an_owner_that_is_gone_is_forgotten(ledger: ContestLedger) -> None:
    ledger.give_up(KEY, "h", Contest(field=".spec.type", manager="rival"))

    ledger.forget("u")

    assert ledger.contest(KEY, "h") is None


def test_what_the_server_made_of_a_manifest_is_no_drift_until_it_changes(ledger: ContestLedger) -> None:
    admitted = Drift(path=".spec.image", expected="a", found="mirror/a")
    tampered = Drift(path=".spec.image", expected="a", found="evil/a")
    ledger.settle(KEY, "h", [admitted])

    assert ledger.unsettled(KEY, "h", [admitted]) == ()
    assert ledger.unsettled(KEY, "h", [tampered]) == (tampered,)
    assert ledger.unsettled(KEY, "other", [admitted]) == (admitted,)

# SPDX-License-Identifier: Apache-2.0
"""What was read a moment ago, in virtual time."""

from dataclasses import dataclass

from nimblet.cluster.sightings import Sightings


@dataclass
class Time:
    seconds: float = 0.0

    def read(self) -> float:
        return self.seconds


def test_a_sighting_counts_for_its_time_and_no_longer() -> None:
    time = Time()
    sightings = Sightings(5.0, time.read)

    assert not sightings.recent("a")
    sightings.saw("a")
    time.seconds = 4.9
    assert sightings.recent("a")
    time.seconds = 5.0
    assert not sightings.recent("a")


def test_another_look_begins_the_time_anew() -> None:
    time = Time()
    sightings = Sightings(5.0, time.read)
    sightings.saw("a")
    time.seconds = 3.0
    sightings.saw("b")
    sightings.saw("a")

    time.seconds = 7.0

    assert sightings.recent("a")
    assert sightings.recent("b")


def test_what_is_too_old_is_dropped() -> None:
    time = Time()
    sightings = Sightings(5.0, time.read)
    for number in range(100):
        time.seconds = float(number)
        sightings.saw(number)

    assert len(sightings) == 5

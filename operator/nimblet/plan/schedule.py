# SPDX-License-Identifier: Apache-2.0
"""When a cron schedule was due last and comes next, in UTC. Pure: the moment is an argument."""

from datetime import UTC, datetime, timedelta

from cronsim import CronSim


def last_due(schedule: str, now: datetime) -> datetime:
    """Return the latest time, up to and with `now`, at which the schedule was due."""
    # the reversed walk starts before its moment: a second later counts a time that is due right now
    return next(CronSim(schedule, now.astimezone(UTC) + timedelta(seconds=1), reverse=True))


def next_due(schedule: str, now: datetime) -> datetime:
    """Return the first time after `now` at which it is due."""
    return next(CronSim(schedule, now.astimezone(UTC)))


def interval_of(schedule: str, now: datetime) -> timedelta:
    """Return the time between the next two times that it is due."""
    first = next_due(schedule, now)
    return next_due(schedule, first) - first

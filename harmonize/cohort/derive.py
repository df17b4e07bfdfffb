"""What is computed from dates: age at diagnosis, overall survival, first events. Dates end here; durations go on."""

__all__ = ["Dates", "First", "Survival", "age_at", "first_event", "overall_survival"]

import datetime as dt
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field


def age_at(birth: dt.date, day: dt.date) -> int:
    """Age in completed years; negative if `day` is before birth. Born on 29 February: older on 1 March.

    >>> age_at(dt.date(1950, 6, 15), dt.date(2000, 6, 14)), age_at(dt.date(1950, 6, 15), dt.date(2000, 6, 15))
    (49, 50)
    >>> age_at(dt.date(1952, 2, 29), dt.date(2001, 2, 28)), age_at(dt.date(1952, 2, 29), dt.date(2001, 3, 1))
    (48, 49)
    """
    return day.year - birth.year - ((day.month, day.day) < (birth.month, birth.day))


@dataclass(frozen=True, slots=True)
class Dates:
    """What a patient's records say about life and death, all distinct dates of each kind.

    Attributes:
        index: date of the index diagnosis.
        deceased: what the records say outright: a subset of {True, False}.
        deaths: dates of death.
        follow_ups: dates on which the patient was seen alive.
    """

    index: dt.date = field(repr=False)
    deceased: frozenset[bool] = field(repr=False)
    deaths: frozenset[dt.date] = field(repr=False)
    follow_ups: frozenset[dt.date] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Survival:
    """Days from index diagnosis to death (`event`) or to the last time the patient was seen alive.

    Attributes:
        warnings: issue codes of what was usable but odd.
    """

    time: int = field(repr=False)
    event: bool = field(repr=False)
    warnings: tuple[str, ...] = ()


def overall_survival(dates: Dates, hard: tuple[int, int]) -> Survival | str:
    """Overall survival, or the issue code that says why there is none.

    | records | result |
    |---|---|
    | one date of death, not before diagnosis | time to death, event |
    | several dates of death | conflicting-values |
    | date of death, and "alive" | vital-status-contradiction |
    | "dead" without a date | death-date-missing |
    | no death, seen on or after diagnosis | time to the last of these days, censored |
    | no death, last seen before diagnosis | follow-up-before-diagnosis |
    | no death, never seen | follow-up-missing |
    """
    if len(dates.deaths) > 1:
        return "conflicting-values"
    if dates.deaths and False in dates.deceased:
        return "vital-status-contradiction"
    if not dates.deaths and True in dates.deceased:
        return "death-date-missing"
    last_seen = max(dates.follow_ups, default=None)
    if dates.deaths:
        (death,) = dates.deaths
        late = ("follow-up-after-death",) if last_seen is not None and last_seen > death else ()
        result = Survival((death - dates.index).days, event=True, warnings=late)
        if result.time < 0:
            return "death-before-diagnosis"
    elif last_seen is None:
        return "follow-up-missing"
    else:
        result = Survival((last_seen - dates.index).days, event=False)
        if result.time < 0:
            return "follow-up-before-diagnosis"
    return result if hard[0] <= result.time <= hard[1] else "outcome-implausible"


@dataclass(frozen=True, slots=True)
class First:
    """Days from index diagnosis to the first event of a kind, or to the last day without one.

    Attributes:
        time: days; None: not known.
        event: true: it happened at `time`.
        issue: issue code of what was odd, or "".
    """

    time: int | None = field(repr=False)
    event: bool = field(default=False, repr=False)
    issue: str = ""


def first_event(
    survival: Survival,
    index: dt.date,
    dates: AbstractSet[dt.date],
    *,
    ruled_out: bool,
    doubtful: bool,
    hard: tuple[int, int],
) -> First:
    """The first event of a kind, censored when the patient was last seen or died.

    Each patient's result depends on that patient alone, never on whether others had such an event.

    | records | result |
    |---|---|
    | nothing, or "has not happened" | censored at the end of overall survival |
    | dates on or after diagnosis only | time to the first of them |
    | the first of these is after death | not known, event-after-death |
    | a date before diagnosis, whatever comes later | not known, event-before-diagnosis |
    | a date, and "has not happened" | not known, conflicting-values |
    | outside the profile's range, or after the last day that counts as seen alive | not known, event-implausible |
    | no date, but "unknown" or an unreadable one | not known |

    Args:
        survival: of the same patient; dates of events that can be meant count there as days seen alive.
        index: day 0.
        dates: of such events.
        ruled_out: the records say that it has not happened.
        doubtful: the records have something that cannot be used, or say that it is not known.
        hard: smallest and largest possible time in days.

    Returns:
        a time of at most `survival.time`, or none.
    """
    if dates and ruled_out:
        return First(None, issue="conflicting-values")
    if not dates:
        censored = First(survival.time)
        return First(None) if doubtful and not ruled_out else censored
    time = (min(dates) - index).days
    if time < 0:
        # Recorded again later, it is no first event: it was there when the time began.
        return First(None, issue="event-before-diagnosis")
    if not hard[0] <= time <= hard[1]:
        return First(None, issue="event-implausible")
    if time <= survival.time:
        return First(time, event=True)
    return First(None, issue="event-after-death" if survival.event else "event-implausible")

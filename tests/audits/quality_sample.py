"""A quality report with something of everything, on the shipped MDS profile, for the tests of the pages."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal

from harmonize.events import Event, Issue, Pointer, State
from harmonize.profile import Profile, load
from harmonize.reporting.describe import quality
from harmonize.reporting.quality import Flow, Quality
from harmonize.reporting.tally import Tally
from harmonize.units import factor
from harmonize.variables import CodeVariable, DerivedVariable, FeatureVariable, LabVariable

ROWS = 412
HOSTILE = '<script>alert("x")</script>'
FORMULA = "=HYPERLINK(A1)"
_ALWAYS_A_VALUE = (CodeVariable, DerivedVariable, FeatureVariable, LabVariable)


def sample(profile: Profile | None = None, field: str = "Leukozyten (/µl)", file: str = "Patienten.csv") -> Quality:
    """Random but always the same."""
    profile = profile or load("mds")
    chance = random.Random(5)
    tally, columns = Tally(), {}
    for variable in profile.variables:
        columns[variable.name], columns[f"{variable.name}__m"] = _column(variable, chance)
        if isinstance(variable, LabVariable):
            _measure(variable, columns[variable.name], tally, chance)
        event = Event("p", variable.name, True, Pointer(file, 2, f"{variable.name.upper()} ({field})"))
        for _ in range(ROWS):
            tally.seen(event)
    for code, variable, count in _FOUND:
        for line in range(count):
            tally.add(Issue(code, Pointer(file, line + 2, field if variable else ""), variable))
    for outcome, count in (("parsed", 371), ("karyotype-failed", 12), ("karyotype-unparsed", 4)):
        for _ in range(count):
            tally.karyotype(outcome)
    flow = Flow(
        ROWS + 38, {"follow-up-missing": 25, "index-diagnosis-missing": 11, "death-before-diagnosis": 2}, ROWS, 190
    )
    return quality(profile, flow, columns, tally)


_FOUND = (
    ("structure", "", 3),
    ("follow-up-missing", "", 25),
    ("index-diagnosis-missing", "", 11),
    ("death-before-diagnosis", "", 2),
    ("unit-missing", "ldh", 41),
    ("unit-unknown", "platelets", 7),
    ("range-hard", "hb", 5),
    ("range-soft", "wbc", 22),
    ("number-malformed", "anc", 14),
    ("patient-duplicate", "", 6),
    ("multiple-matches", "bm_blasts", 9),
    ("patient-unresolved", "", 2),
    ("date-partial", "index_date", 60),
    ("time-zone-missing", "", 412),
)


def _column(variable: object, chance: random.Random) -> tuple[list[float | None], list[int]]:
    missing = chance.choice([0.0, 0.02, 0.05, 0.1, 0.3, 0.55])
    states = []
    for _ in range(ROWS):
        if chance.random() < missing:
            states.append(chance.choice([State.NOT_RECORDED, State.NOT_RECORDED, State.NOT_TESTED, State.INVALID]))
        elif (
            isinstance(variable, CodeVariable | DerivedVariable | FeatureVariable | LabVariable)
            or chance.random() < 0.12
        ):
            states.append(State.VALUE)
        else:
            states.append(State.TESTED_NEGATIVE)
    values = [_value(variable, state, chance) for state in states]
    return values, [int(state) for state in states]


def _value(variable: object, state: State, chance: random.Random) -> float | None:
    if not state.usable or isinstance(variable, FeatureVariable):
        return None
    if not hasattr(variable, "soft"):
        return float(state is State.VALUE)
    low, high = getattr(variable, "soft", (0, 1))
    return (
        0.0 if state is State.TESTED_NEGATIVE else round(float(low) + chance.betavariate(2, 4) * float(high - low), 1)
    )


def _measure(variable: LabVariable, values: list[float | None], tally: Tally, chance: random.Random) -> None:
    units: Mapping[str, float] = {unit: float(factor(unit, variable) or 1) for unit in list(variable.units)[:2]}
    # Haemoglobin in g/L, declared as g/dL: what a report must notice.
    wrong = 10 if variable.name == "hb" else 1
    for value in values:
        if value is not None:
            unit = chance.choice(list(units))
            tally.measured(variable.name, unit, Decimal(f"{value * wrong / units[unit]:.6f}"))


def counted(quality: Quality) -> Counter[str]:
    """Findings by check."""
    return Counter(str(finding.check) for finding in quality.findings)

"""What a person may hand over of a quality report: rounded counts, and no count of fewer than ten patients.

Statistical disclosure control, not differential privacy: it keeps a reader of one report from learning of a single
patient, and promises nothing to somebody who compares many. So no program sends it: the secure sum stays the only way
out of a hospital, and a person hands this page over, or does not.

The rule, per group (N patients in two sides, each side in parts; K = 10):

| In the group                   | Shown                                                                        |
|--------------------------------|------------------------------------------------------------------------------|
| a side of 0 to K − 1 patients  | "fewer than K"; the other side as "all others"; no part of either            |
| a part of 0 to K − 1 patients  | no part of its side                                                          |
| anything else                  | the largest multiple of K that is not above the count                        |

A hidden count cannot be computed from what is shown, whatever the reader knows about N: a small side may be any of
0 … K − 1, because its other side, which would fill it up to N, is hidden with it (complementary suppression); a small
part may be any of 0 … K − 1, because all parts of its side are hidden and the side has K patients at least. Groups
share nothing but N. Nobody counts as a small count, too: a 0 that became "fewer than K" would tell of the one patient
in whom two reports differ. `tests/harmonize/test_disclosure.py` inverts the published numbers by brute force.

Counts are rounded because a part could else be found from an exact number published elsewhere, and because two reports
of nearly the same cohort would give away the patient in whom they differ. Exact totals, shares, reasons for which
patients are left out, and coverage of gene panels are left out: each is tied to other numbers by more than N. So are
findings, units and codes: they count facts, and one patient may have K of them.
"""

__all__ = ["K", "Shareable", "Shared", "Split", "publish", "shareable"]

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from harmonize.errors import NotReady, ProfileMismatch
from harmonize.events import State
from harmonize.profile import Profile, Variable
from harmonize.reporting.quality import Quality, VariableQuality

K: Final = 10
FORMAT: Final = "haemfed/quality-shareable/1"
HANDLING: Final = (
    "For handing over by a person. Counts are rounded down to multiples of 10, and counts of 0 to 9 patients are not "
    "shown. No program sends this report: what leaves a hospital by itself goes through the noisy secure sum."
)
_STATES: Final = {state.name.lower().replace("_", "-"): state for state in State}


@dataclass(frozen=True, slots=True)
class Split:
    """Patients in two sides, each in parts, as published.

    Attributes:
        sides: side -> patients rounded down to a multiple of k; None where it is hidden.
        few: the side with 0 to k − 1 patients, or "".
        parts: side -> part -> patients, rounded down; None where they are hidden.
    """

    sides: Mapping[str, int | None]
    few: str
    parts: Mapping[str, Mapping[str, int] | None]


def publish(sides: Mapping[str, Mapping[str, int]], k: int = K) -> Split:
    """Hide and round one group.

    Args:
        sides: exactly two: side -> part -> patients, also the parts that have none; together 2 k patients at least.
        k: smallest count of patients that may be shown.

    >>> publish({"usable": {"value": 291}, "missing": {"not-recorded": 12, "invalid": 20}}).parts["missing"]
    {'not-recorded': 10, 'invalid': 20}
    >>> publish({"usable": {"value": 291}, "missing": {"not-recorded": 12, "invalid": 3}}).parts["missing"] is None
    True
    >>> publish({"usable": {"value": 291}, "missing": {"invalid": 3}}).sides
    {'usable': None, 'missing': None}
    """
    totals = {side: sum(parts.values()) for side, parts in sides.items()}
    few = next((side for side, total in totals.items() if total < k), "")
    return Split(
        {side: None if few else _down(total, k) for side, total in totals.items()},
        few,
        {side: None if few else _parts(parts, k) for side, parts in sides.items()},
    )


def _parts(parts: Mapping[str, int], k: int) -> dict[str, int] | None:
    if any(count < k for count in parts.values()):
        return None
    return {name: _down(count, k) for name, count in parts.items()}


def _down(count: int, k: int) -> int:
    return count - count % k


@dataclass(frozen=True, slots=True)
class Shared:
    """One variable, in words of the public profile.

    Attributes:
        rows: usable and missing, by state.
    """

    name: str
    title: str
    kind: str
    rows: Split


@dataclass(frozen=True, slots=True)
class Shareable:
    """The report for handing over.

    Attributes:
        rows: patients in the table, rounded down.
        left_out: patients left out, rounded down; None for 0 to k − 1.
        deaths: died, and alive when last seen.
        variables: one per variable of the profile.
    """

    profile: str
    version: str
    digest: str
    rows: int
    left_out: int | None
    deaths: Split
    variables: tuple[Shared, ...]

    def to_json(self) -> bytes:
        """The report as indented JSON, with the handling note first."""
        body = {"format": FORMAT, "handling": HANDLING, "smallest_count": K, **msgspec.to_builtins(self)}
        return msgspec.json.format(msgspec.json.encode(body), indent=2)


def shareable(quality: Quality, profile: Profile) -> Shareable:
    """Take out of a report what a person may hand over.

    Every word of it comes from the profile or from this package: no column, no file, no text of the source.

    Args:
        quality: the local report.
        profile: the profile that it was made under.

    Raises:
        ProfileMismatch: the report was made under another profile.
        NotReady: fewer than 2 k patients; nothing would be left to show.
    """
    if quality.digest != profile.digest:
        raise ProfileMismatch(f"the report was made under another profile than {profile.profile} {profile.version}")
    flow = quality.flow
    if flow.usable < 2 * K:
        raise NotReady(f"fewer than {2 * K} patients in the table: nothing of the report may be handed over")
    out = sum(flow.left_out.values())
    known = {each.name: each for each in quality.variables}
    return Shareable(
        profile=profile.profile,
        version=profile.version,
        digest=profile.digest,
        rows=_down(flow.usable, K),
        left_out=None if out < K else _down(out, K),
        deaths=publish({"died": {"died": flow.deaths}, "alive": {"alive": flow.usable - flow.deaths}}),
        variables=tuple(
            _shared(variable, known[variable.name]) for variable in profile.variables if variable.name in known
        ),
    )


def _shared(variable: Variable, found: VariableQuality) -> Shared:
    sides: dict[str, dict[str, int]] = {"usable": {}, "missing": {}}
    for name, state in _STATES.items():
        sides["usable" if state.usable else "missing"][name] = found.states.get(name, 0)
    return Shared(
        variable.name,
        variable.title,
        variable.kind,
        publish(sides),
    )

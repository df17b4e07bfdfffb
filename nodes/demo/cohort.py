"""The demo's patients: LeukSurv, 1,043 adults with acute myeloid leukaemia, split by district into hospitals.

Source: Henderson, Shimakura & Gorst, Modeling spatial variation in leukemia survival data, JASA 97 (2002)
965-972; data frame `LeukSurv` of the R package spBayesSurv (sex: male = 1, female = 0; time in days; wbc
truncated at 500; tpi: Townsend score, higher is less affluent), shipped by the Python package SurvSet. Ages,
survival, counts and districts are real; identifiers and calendar dates are invented, the same on every
machine.
"""

__all__ = ["DISTRICTS", "MAXIMUM", "MINIMUM", "SMALLEST", "Hospital", "hospitals"]

import datetime as dt
import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import pandas as pd

from nodes.errors import ConfigError

MINIMUM: Final = 4
MAXIMUM: Final = 16
SMALLEST: Final = 20  # patients; a hospital below this is merged into the next

# Each district goes, in this order (most patients first), to the hospital that lacks most of its share.
DISTRICTS: Final = (24, 17, 7, 2, 21, 19, 14, 20, 16, 5, 18, 3, 15, 23, 1, 9, 12, 22, 8, 13, 11, 4, 6, 10)

_NAMES: Final = (
    "alder", "birch", "cedar", "dogwood", "elm", "fir", "gorse", "hazel",
    "ivy", "juniper", "knotweed", "larch", "maple", "nettle", "oak", "poplar",
)  # fmt: skip
# The shares fall geometrically from the first hospital to the last: by this factor, or by less where the last
# would come near the smallest size. Six hospitals get 39, 25, 16, 10, 7 and 4 %.
_LARGEST_TO_SMALLEST: Final = (10.0, 8.0, 7.0, 6.0, 5.0, 4.5, 4.0)
_COMFORTABLE: Final = 28
_FIRST_DIAGNOSIS: Final = dt.date(1982, 1, 1)
_LAST_DIAGNOSIS: Final = dt.date(1998, 12, 31)


@dataclass(frozen=True)
class Hospital:
    """One hospital of the demo.

    Attributes:
        name: short name, also its site name in the study.
        districts: numbers of the districts whose patients it treats.
        frame: one row a patient, sorted by `patient`: patient (local identifier), sex ("female" or "male"),
            birth_date, diagnosis_date, death_date (or None), last_follow_up (dates), wbc (10*9/L), tpi, and
            for comparison age (completed years at diagnosis), time (days) and event.
    """

    name: str
    districts: tuple[int, ...]
    frame: pd.DataFrame = field(repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.frame)


def hospitals(number: int = 6) -> list[Hospital]:
    """Load LeukSurv and split it.

    Args:
        number: 4 to 16 hospitals; fewer come back if some had to be merged.

    Returns:
        hospitals, named in order of their intended size.

    Raises:
        ConfigError: `number` is out of range, or SurvSet is not installed.
    """
    if not MINIMUM <= number <= MAXIMUM:
        raise ConfigError(f"--hospitals {number}: the demo runs with {MINIMUM} to {MAXIMUM} hospitals")
    patients = _load()
    sizes = dict(Counter(patients["district"].tolist()))
    allotted = _merge(_allot(sizes, number), sizes)
    return [_hospital(_NAMES[rank], districts, patients) for rank, districts in enumerate(allotted)]


def _load() -> pd.DataFrame:
    try:
        from SurvSet.data import SurvLoader  # noqa: PLC0415  GPL, an extra: only the demo needs it
    except ImportError:
        raise ConfigError("the demo's patients are not installed; run: pip install 'haemfed[demo]'") from None
    raw = SurvLoader().load_dataset("LeukSurv")["df"]
    return pd.DataFrame(
        {
            "number": raw["pid"].astype(int),
            "district": raw["fac_district"].astype(int),
            "sex": raw["fac_sex"].astype(int).map({0: "female", 1: "male"}),
            "age": raw["num_age"].astype(int),
            # The published figures have at most two decimals (wbc) and four (tpi): the rest is floating-point
            # noise.
            "wbc": raw["num_wbc"].astype(float).round(2),
            "tpi": raw["num_tpi"].astype(float).round(4),
            "time": raw["time"].astype(int),
            "event": raw["event"].astype(bool),
        }
    )


def _shares(number: int, total: int) -> list[float]:
    """Intended numbers of patients, largest first."""
    for factor in _LARGEST_TO_SMALLEST:
        weights = [factor ** (-rank / (number - 1)) for rank in range(number)]
        shares = [total * weight / sum(weights) for weight in weights]
        if shares[-1] >= _COMFORTABLE:
            break
    return shares


def _allot(sizes: dict[int, int], number: int) -> list[list[int]]:
    shares = _shares(number, sum(sizes.values()))
    allotted: list[list[int]] = [[] for _ in range(number)]
    for district in DISTRICTS:
        lacking = [
            share - sum(sizes[member] for member in members) for share, members in zip(shares, allotted, strict=True)
        ]
        allotted[lacking.index(max(lacking))].append(district)
    return allotted


def _merge(allotted: list[list[int]], sizes: dict[int, int]) -> list[tuple[int, ...]]:
    """Join a hospital that is too small with the next; the last with the one before."""
    merged: list[list[int]] = []
    waiting: list[int] = []
    for districts in allotted:
        waiting = [*waiting, *districts]
        if sum(sizes[district] for district in waiting) >= SMALLEST:
            merged.append(waiting)
            waiting = []
    if waiting:
        merged[-1].extend(waiting)
    return [tuple(sorted(districts)) for districts in merged]


def _hospital(name: str, districts: tuple[int, ...], patients: pd.DataFrame) -> Hospital:
    own = patients[patients["district"].isin(districts)]
    records = own.to_dict("records")
    rows = [_with_dates(name, {str(key): value for key, value in row.items()}) for row in records]
    frame = pd.DataFrame(rows).sort_values("patient", ignore_index=True)
    return Hospital(name, districts, frame)


def _with_dates(hospital: str, row: dict[str, Any]) -> dict[str, Any]:
    """Invent an identifier and dates that agree with the real age and survival."""
    number, age = row["number"], row["age"]
    days = (_LAST_DIAGNOSIS - _FIRST_DIAGNOSIS).days
    diagnosis = _FIRST_DIAGNOSIS + dt.timedelta(days=_invent("diagnosis", number) % days)
    # 1 March instead of 29 February: the birthday exists in every year.
    birthday = (3, 1) if (diagnosis.month, diagnosis.day) == (2, 29) else (diagnosis.month, diagnosis.day)
    turned = dt.date(diagnosis.year - age, *birthday)
    birth = turned - dt.timedelta(days=1 + _invent("birth", number) % 363)
    last = diagnosis + dt.timedelta(days=row["time"])
    return {
        "patient": f"{hospital[:3].upper()}-{_invent('identifier', number) % 10**8:08d}",
        "sex": row["sex"],
        "birth_date": birth,
        "diagnosis_date": diagnosis,
        "death_date": last if row["event"] else None,
        "last_follow_up": last,
        "wbc": row["wbc"],
        "tpi": row["tpi"],
        "age": age,
        "time": row["time"],
        "event": row["event"],
    }


def _invent(purpose: str, number: int) -> int:
    """A number that looks random and is the same everywhere."""
    return int.from_bytes(hashlib.sha256(f"haemfed/demo/{purpose}/{number}".encode()).digest()[:8])

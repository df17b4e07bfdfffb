"""Cytogenetic findings of one patient: from karyotypes, and as stated.

| karyotype | cells |
|---|---|
| can be read | 1, or 0 with state tested-negative |
| can be read, but incomplete | findings stand; what was not found, and counts, are unknown |
| has fewer than ten normal metaphases and no clone | incomplete: what was not found, and normal, are unknown |
| can be read; the feature is one that banding hardly ever shows (`karyotype.CRYPTIC`) and was not found | not tested |
| is normal, and the variable takes that for no evidence (`normal_is_evidence: false`, as in myeloma) | not tested |
| the text says that there is none (no metaphases) | not tested, with `karyotype-failed` |
| cannot be read | invalid, with `karyotype-unparsed` |
| several of the nearest day | what one of them is certain about |
| several of the nearest day, certain and different | invalid, with `conflicting-values`, for what differs |

Of several days, the one nearest to diagnosis counts. What a bare 45,X has lost, the patient's sex tells. Stated
findings: see `harmonize.cohort.stated`.
"""

__all__ = ["Cytogenetics"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from harmonize.cohort.checks import KARYOTYPE, KARYOTYPE_MALE, SHOWN
from harmonize.cohort.choose import Cell, Notes, worst
from harmonize.cohort.columns import Columns
from harmonize.cohort.gather import Found
from harmonize.cohort.stated import NUMBERS, agreed, inside_range, inside_window, nearest, stated
from harmonize.errors import MisuseError
from harmonize.events import Fact, State
from harmonize.karyotype import CRYPTIC, Karyotype, KaryotypeError, parse
from harmonize.profile import CodeVariable, CytogeneticVariable, Profile

_NO_METAPHASES: Final = "karyotype-failed"
_LOSS_OF_17P: Final = "del17p"

Value = tuple[float | None, State]
Sex = Literal["XX", "XY"]
_SEXES: Final[Mapping[str, Sex]] = {"female": "XX", "male": "XY"}


@dataclass(frozen=True, slots=True)
class _Template:
    """What some karyotypes of one day say, made once for all patients who have them.

    Attributes:
        values, states: of the profile's variables, NaN where there is no number.
        conflicts: variables about which the karyotypes disagree.
        shown: of `SHOWN`, NaN where not certain.
        loss17p: whether 17p is lost; None if not known.
    """

    values: NDArray[np.float64] = field(repr=False)
    states: NDArray[np.int64] = field(repr=False)
    conflicts: tuple[str, ...]
    shown: NDArray[np.float64] = field(repr=False)
    loss17p: bool | None


class Cytogenetics:
    """Decides for one patient after another.

    Args:
        profile: the study's profile.
        columns: where cells go.
        notes: where issues go.
    """

    def __init__(self, profile: Profile, columns: Columns, notes: Notes) -> None:
        self._columns, self._notes = columns, notes
        self._variables = tuple(v for v in profile.scalars if isinstance(v, CytogeneticVariable))
        self._at = columns.block([variable.name for variable in self._variables])
        self._shown_at = columns.block(SHOWN)
        self._sex_from = tuple(
            v.name for v in profile.scalars if isinstance(v, CodeVariable) and v.patient_field == "gender"
        )
        self._parsed: dict[tuple[str, Sex | None], Karyotype | str] = {}
        self._templates: dict[tuple[tuple[str, ...], Sex | None], _Template] = {}

    def decide(self, facts: Mapping[str, Sequence[Found]], index: int) -> bool | None:
        """Put the findings of the open row.

        Returns:
            whether 17p is lost; None if not known.

        Raises:
            MisuseError: a source yielded something else than text, or a stated finding of a wrong type.
        """
        missing: dict[State, Found] = {}
        karyotypes = facts.get(Fact.KARYOTYPE, ())
        sex = self._sex(facts) if karyotypes else None
        counting = self._counting(karyotypes, sex, index, missing)
        template = self._template(counting, sex) if counting else None
        loss17p = None
        if template is not None:
            self._put(template, counting[0])
            loss17p = template.loss17p
        elif missing:
            cell = worst(missing)
            self._columns.put_block(
                self._at, np.full(len(self._at), np.nan), np.full(len(self._at), cell.state), cell.source
            )
            self._columns.put(Fact.KARYOTYPE, cell)
        for place, variable in enumerate(self._variables):
            if found := facts.get(variable.name):
                derived = worst(missing)
                if template is not None:
                    derived = self._derived(template, place, counting[0])
                cell = agreed(variable, derived, stated(variable, found, index, self._notes), self._notes)
                cell = inside_range(variable, cell, self._notes)
                self._columns.put(variable.name, cell)
                if variable.feature == _LOSS_OF_17P:
                    loss17p = None if cell.value is None else cell.value == 1
        return loss17p

    def _sex(self, facts: Mapping[str, Sequence[Found]]) -> Sex | None:
        """Sex chromosomes by the patient's sex, if the records agree on it."""
        stated = {fact.value for name in self._sex_from for fact in facts.get(name, ()) if fact.state.usable}
        return _SEXES.get(str(stated.pop())) if len(stated) == 1 else None

    def _counting(
        self, found: Sequence[Found], sex: Sex | None, index: int, missing: dict[State, Found]
    ) -> list[Found]:
        """Readable karyotypes of the nearest day, by place; reasons why there are none go to `missing`."""
        usable = []
        for fact in inside_window(found, index, Fact.KARYOTYPE, self._notes):
            if not fact.state.usable:
                missing.setdefault(fact.state, fact)
                continue
            read = self._parse(fact.value, sex)
            self._notes.tally.karyotype(read if isinstance(read, str) else "parsed")
            if isinstance(read, str):
                self._notes.issue(read, fact, Fact.KARYOTYPE)
                missing.setdefault(State.NOT_TESTED if read == _NO_METAPHASES else State.INVALID, fact)
            else:
                usable.append(fact)
        return nearest(usable, index)

    def _parse(self, text: object, sex: Sex | None) -> Karyotype | str:
        if not isinstance(text, str):
            raise MisuseError("karyotype: a source yielded something else than text")
        known = self._parsed.get((text, sex))
        if known is None:
            try:
                known = parse(text, sex)
            except KaryotypeError as error:
                known = error.code
            self._parsed[text, sex] = known
        return known

    def _put(self, template: _Template, source: Found) -> None:
        self._columns.put_block(self._at, template.values, template.states, source)
        self._columns.put_block(self._shown_at, template.shown, np.zeros(len(SHOWN), dtype=np.int64), None)
        self._columns.put(Fact.KARYOTYPE, Cell(None, State.VALUE, source))
        for name in template.conflicts:
            self._notes.issue("conflicting-values", source, name)

    def _derived(self, template: _Template, place: int, source: Found) -> Cell:
        value = float(template.values[place])
        return Cell(None if np.isnan(value) else value, State(int(template.states[place])), source)

    def _template(self, counting: Sequence[Found], sex: Sex | None) -> _Template:
        texts = tuple(str(fact.value) for fact in counting)
        known = self._templates.get((texts, sex))
        if known is None:
            karyotypes = [read for text in texts if isinstance(read := self._parsed[text, sex], Karyotype)]
            known = self._templates[texts, sex] = self._made(karyotypes)
        return known

    def _made(self, karyotypes: Sequence[Karyotype]) -> _Template:
        values: list[Value] = []
        conflicts = []
        loss: Value | None = _finding(karyotypes, _LOSS_OF_17P)
        for variable in self._variables:
            found = _finding(karyotypes, variable.feature, normal_is_evidence=variable.normal_is_evidence)
            if variable.feature == _LOSS_OF_17P:
                loss = found
            if found is None:
                conflicts.append(variable.name)
            value, state = found or (None, State.INVALID)
            if value is not None and not float(variable.hard[0]) <= value <= float(variable.hard[1]):
                value, state = None, State.INVALID
            values.append((value, state))
        sexes = {karyotype.sex for karyotype in karyotypes}
        male = float("XY" in sexes) if len(sexes) == 1 and None not in sexes else np.nan
        shown = [
            male if name == KARYOTYPE_MALE else _number(_finding(karyotypes, name.removeprefix(KARYOTYPE)))
            for name in SHOWN
        ]
        return _Template(
            np.array([_number(value) for value in values]),
            np.array([state for _, state in values], dtype=np.int64),
            tuple(conflicts),
            np.array(shown),
            None if loss is None or loss[0] is None else loss[0] == 1,
        )


def _finding(karyotypes: Sequence[Karyotype], feature: str, *, normal_is_evidence: bool = True) -> Value | None:
    """A feature as karyotypes of one day have it; None if they disagree about it."""
    values = {
        karyotype.features[feature]
        for karyotype in karyotypes
        if _is_certain(karyotype, feature, normal_is_evidence=normal_is_evidence)
    }
    if len(values) > 1:
        return None
    for value in values:
        return float(value), State.TESTED_NEGATIVE if value == 0 else State.VALUE
    open_all = feature not in CRYPTIC and all(karyotype.incomplete for karyotype in karyotypes)
    return None, State.UNKNOWN if open_all else State.NOT_TESTED


def _is_certain(karyotype: Karyotype, feature: str, *, normal_is_evidence: bool) -> bool:
    value = karyotype.features[feature]
    if feature in CRYPTIC or (karyotype.features["normal"] and not normal_is_evidence):
        return value == 1
    # What was seen in an incomplete karyotype stays true, also that it is not normal.
    return not karyotype.incomplete or (value == 0 if feature == "normal" else value == 1 and feature not in NUMBERS)


def _number(value: Value | None) -> float:
    return np.nan if value is None or value[0] is None else value[0]

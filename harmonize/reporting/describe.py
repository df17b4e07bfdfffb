"""From a finished cohort to its quality report: what can be counted once every choice has been made."""

__all__ = ["five_numbers", "quality"]

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harmonize.events import Issue, Pointer, Severity, State
from harmonize.profile import CodeVariable, FeatureVariable, LabVariable, Profile, Scale, Variable
from harmonize.reporting.quality import FiveNumbers, Flow, Gene, PanelQuality, Quality, VariableQuality
from harmonize.reporting.tally import Finding, Tally
from harmonize.units import factor
from harmonize.variables import VariantVariable

_FEWEST: Final = 5  # values: five numbers of fewer patients would be the patients
_FEWEST_UNIT: Final = 10  # measurements: below, a median says nothing about a unit
_FAR: Final = 1.5  # spreads from the public centre: no cohort's median lies there


def quality(profile: Profile, flow: Flow, columns: Mapping[str, Sequence[object]], tally: Tally) -> Quality:
    """Describe a cohort.

    Args:
        profile: what it was harmonised to.
        flow: who is in it.
        columns: as `Table.from_columns` takes them; for every variable `<name>` and `<name>__m`.
        tally: what was counted on the way; unit suspicions are added to it.
    """
    suspects = {variable.name: _suspect(variable, tally) for variable in profile.variables}
    by_variable: defaultdict[str, list[Finding]] = defaultdict(list)
    for finding in tally.findings():
        by_variable[finding.variable].append(finding)
    variables = tuple(
        _variable(variable, columns, tally, by_variable[variable.name], suspects[variable.name])
        for variable in profile.variables
    )
    genes, panels = _coverage(profile, columns)
    return Quality(
        profile.profile,
        profile.version,
        profile.digest,
        flow,
        variables,
        tally.findings(),
        genes,
        panels,
        tally.karyotypes,
    )


def _variable(
    variable: Variable,
    columns: Mapping[str, Sequence[object]],
    tally: Tally,
    findings: Sequence[Finding],
    suspect: str,
) -> VariableQuality:
    states = Counter(columns[f"{variable.name}__m"])
    dropped: Counter[str] = Counter()
    for finding in findings:
        if finding.severity in {Severity.ERROR, Severity.FATAL}:
            dropped[finding.code] += finding.count
    units = tally.units(variable.name)
    feature = isinstance(variable, FeatureVariable)
    return VariableQuality(
        name=variable.name,
        title=variable.title,
        states={_name(state): states[state] for state in State if states[state]},
        units=units,
        kind=variable.kind,
        unit=getattr(variable, "unit", ""),
        tier=variable.tier,
        max_missing=1.0 if isinstance(variable, FeatureVariable) else float(variable.missing.max_rate),
        codes=tally.codes(variable.name),
        converted=sum(
            units[unit] for unit in units if isinstance(variable, LabVariable) and factor(unit, variable) != 1
        ),
        dropped=dict(sorted(dropped.items())),
        soft=sum(finding.count for finding in findings if finding.code == "range-soft"),
        summary=None if feature or isinstance(variable, CodeVariable) else five_numbers(columns[variable.name]),
        suspect=suspect,
    )


def five_numbers(values: Sequence[object]) -> FiveNumbers | None:
    """Minimum, quartiles and maximum of what is there; None for booleans, for 0/1, and for less than five values.

    >>> five_numbers([4.0, None, 1.0, 2.0, 3.0, 5.0]).median
    3.0
    """
    known = np.array([float(value) for value in values if isinstance(value, int | float)])
    if known.size < _FEWEST or np.isin(known, (0.0, 1.0)).all():
        return None
    return FiveNumbers(*(float(number) for number in np.quantile(known, (0.0, 0.25, 0.5, 0.75, 1.0))))


def _suspect(variable: Variable, tally: Tally) -> str:
    """Another unit of the profile that the measurements of a declared unit fit much better, or "".

    The median is compared with the public centre and spread: a hospital's haemoglobin of 97 g/dL is in g/L, one of
    6 g/dL in mmol/L. Nothing is converted for it: a person decides.
    """
    if not isinstance(variable, LabVariable):
        return ""
    for unit, count in tally.units(variable.name).items():
        typical, declared = tally.typical(variable.name, unit), factor(unit, variable)
        if count < _FEWEST_UNIT or typical is None or declared is None:
            continue
        distance = _distance(typical * float(declared), variable.scale)
        others = [
            (_distance(typical * float(other), variable.scale), name)
            for name, other in sorted(variable.units.items())
            if other != declared
        ]
        if distance > _FAR and others and min(others)[0] < min(_FAR, distance / 2):
            tally.add(Issue("unit-suspect", Pointer("", 0, unit), variable.name))
            return min(others)[1]
    return ""


def _distance(value: float, scale: Scale) -> float:
    transformed = math.log1p(value) if scale.transform == "log1p" else value
    return abs(transformed - float(scale.centre)) / float(scale.spread)


def _coverage(
    profile: Profile, columns: Mapping[str, Sequence[object]]
) -> tuple[tuple[Gene, ...], tuple[PanelQuality, ...]]:
    tested: dict[int, NDArray[np.bool_]] = {}
    found: dict[int, NDArray[np.bool_]] = {}
    symbols: dict[int, str] = {}
    for variable in profile.variables:
        if isinstance(variable, VariantVariable):
            hgnc, states = variable.gene.hgnc, np.asarray(columns[f"{variable.name}__m"], dtype=np.int64)
            symbols.setdefault(hgnc, variable.gene.symbols[0])
            known = np.isin(states, [int(state) for state in State if state.usable])
            present = known & (states != State.TESTED_NEGATIVE)
            tested[hgnc] = tested[hgnc] | known if hgnc in tested else known
            found[hgnc] = found[hgnc] | present if hgnc in found else present
    genes = tuple(Gene(hgnc, symbols[hgnc], int(tested[hgnc].sum()), int(found[hgnc].sum())) for hgnc in symbols)
    panels = []
    for name, panel in profile.panels.items():
        if members := [tested[hgnc] for hgnc in panel.genes if hgnc in tested]:
            complete = int(np.logical_and.reduce(members).sum())
            panels.append(PanelQuality(name, panel.title, len(members), complete))
    return genes, tuple(panels)


def _name(state: State) -> str:
    return state.name.lower().replace("_", "-")

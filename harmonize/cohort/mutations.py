"""Variant variables of one patient: from variants and tested genes (`harmonize.genetics.genomics`), and as stated.

Where a source has nothing genomic about a patient, everything is "not recorded"; where it has something, but nothing
about a gene, that gene is "not tested". Stated findings: see `harmonize.cohort.stated`.
"""

__all__ = ["Mutations"]

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from harmonize.cohort.choose import Cell, Notes, number, worst
from harmonize.cohort.columns import Columns
from harmonize.cohort.gather import Found
from harmonize.cohort.stated import agreed, inside_range, inside_window, stated
from harmonize.errors import MisuseError
from harmonize.events import Fact, State, Variant
from harmonize.genetics import genomics
from harmonize.profile import Profile, VariantVariable

Called = Mapping[Variant, Found]
Facts = Mapping[str, Sequence[Found]]
_NOTHING = Cell(None, State.NOT_RECORDED)


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What a source has about one patient's genes.

    Attributes:
        called: by gene: every finding, and where.
        tested: gene -> the fact that says it was tested.
        panels: these facts.
        missing: why there is nothing.
        loss17p: whether 17p is lost; None if not known.
    """

    called: Mapping[int, Called]
    tested: Mapping[int, Found]
    panels: Sequence[Found]
    missing: Mapping[State, Found]
    loss17p: bool | None

    def __bool__(self) -> bool:
        return bool(self.called or self.tested or self.missing)


class Mutations:
    """Decides for one patient after another.

    Args:
        profile: the study's profile.
        columns: where cells go.
        notes: where issues go.
    """

    def __init__(self, profile: Profile, columns: Columns, notes: Notes) -> None:
        self._columns, self._notes = columns, notes
        self._variables = tuple(v for v in profile.scalars if isinstance(v, VariantVariable))
        self._by_name = {variable.name: variable for variable in self._variables}
        self._by_gene: defaultdict[int, list[VariantVariable]] = defaultdict(list)
        for variable in self._variables:
            self._by_gene[variable.gene.hgnc].append(variable)
        self._at = columns.block([variable.name for variable in self._variables])
        # A panel without a finding looks alike in all patients.
        self._templates: dict[object, tuple[NDArray[np.float64], NDArray[np.int64]]] = {}

    def decide(self, facts: Facts, index: int, *, loss17p: bool | None) -> None:
        """Put the variant variables of the open row.

        Args:
            facts: of the patient.
            index: ordinal of day 0.
            loss17p: whether 17p is lost; None if not known.

        Raises:
            MisuseError: a source yielded a fact of a wrong type.
        """
        if not self._variables:
            return
        evidence = self._evidence(facts, index, loss17p)
        if evidence:
            self._put_panel(evidence)
        for gene in evidence.called:
            for variable in self._by_gene.get(gene, ()):
                self._columns.put(variable.name, inside_range(variable, self._cell(variable, evidence), self._notes))
        for name, found in facts.items():
            if said := self._by_name.get(name):
                derived = self._cell(said, evidence) if evidence else _NOTHING
                cell = agreed(said, derived, stated(said, found, index, self._notes), self._notes)
                self._columns.put(said.name, inside_range(said, cell, self._notes))

    def _evidence(self, facts: Facts, index: int, loss17p: bool | None) -> _Evidence:  # noqa: FBT001  a finding, not a switch
        called: defaultdict[int, dict[Variant, Found]] = defaultdict(dict)
        tested: dict[int, Found] = {}
        panels: list[Found] = []
        missing: dict[State, Found] = {}
        for name in (Fact.VARIANT, Fact.GENES_TESTED):
            inside = inside_window(facts.get(name, ()), index, name, self._notes)
            for fact in inside:  # by place, as `Store.read` gives them
                if not fact.state.usable:
                    missing.setdefault(fact.state, fact)
                elif isinstance(fact.value, Variant):
                    called[fact.value.hgnc].setdefault(fact.value, fact)
                elif isinstance(fact.value, frozenset):
                    tested = dict.fromkeys(fact.value, fact) | tested if tested else dict.fromkeys(fact.value, fact)
                    panels.append(fact)
                else:
                    raise MisuseError(f"{name}: a source yielded neither a variant nor a set of genes")
        return _Evidence(called, tested, panels, missing, loss17p)

    def _put_panel(self, evidence: _Evidence) -> None:
        """All variables as if no variant had been called."""
        if len(evidence.panels) > 1:  # each gene from its own place
            bare = replace(evidence, called={})
            for variable in self._variables:
                self._columns.put(variable.name, self._cell(variable, bare))
            return
        key = evidence.panels[0].value if evidence.panels else None, evidence.loss17p
        if key not in self._templates:
            bare = replace(evidence, called={})
            cells = [self._value(variable, bare) for variable in self._variables]
            self._templates[key] = (
                np.array([np.nan if value is None else value for value, _ in cells]),
                np.array([state for _, state in cells], dtype=np.int64),
            )
        said = worst(evidence.missing).source if evidence.missing else None
        self._columns.put_block(self._at, *self._templates[key], next(iter(evidence.panels), said))

    def _cell(self, variable: VariantVariable, evidence: _Evidence) -> Cell:
        value, state = self._value(variable, evidence)
        called = evidence.called.get(variable.gene.hgnc, {})
        telling = [fact for variant, fact in called.items() if bool(variant.present) == bool(value)]
        if not telling:
            return Cell(value, state, evidence.tested.get(variable.gene.hgnc))
        return Cell(value, state, telling[0] if len(telling) == 1 else min(telling, key=lambda fact: fact.place))

    def _value(self, variable: VariantVariable, evidence: _Evidence) -> tuple[float | None, State]:
        gene = variable.gene.hgnc
        # In an order of their own: that of the source must not matter.
        called = sorted(evidence.called.get(gene, ()), key=_order)
        tested = (gene,) if gene in evidence.tested else ()
        value, state = genomics.value(variable, called, tested, evidence.loss17p)
        return (None if value is None else number(Decimal(value))), state


def _order(variant: Variant) -> tuple[str, ...]:
    return variant.protein, variant.coding, variant.effect, str(variant.vaf), str(variant.present)

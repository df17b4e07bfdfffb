"""Observations of molecular genetics and cytogenetics become findings: variants, tested genes, karyotypes.

Read: the Variant and Genomic Region Studied profiles of HL7 Genomics Reporting (STU3) and mCODE, and karyotypes under
their LOINC codes.

| Observation | becomes |
|---|---|
| 69548-6 Present, one gene | a variant of that gene |
| 69548-6 Absent, any number of genes | each of them looked for and not there |
| 69548-6 No call, Indeterminate | a variant of which it is not known whether it is there |
| 53041-0 with genes | these genes were tested |
| 33893-9, 29770-5, 62356-1, or component 81291-7 | the karyotype, as text: "Present" does not mean abnormal |

Genes are known by HGNC id in the systems of genenames.org; symbols count only where there is no id. A code always
wins over its display; where the two contradict each other, `code-display-mismatch` says so.
"""

__all__ = ["COMPONENT", "OBSERVATIONS", "concerns", "events"]

import datetime as dt
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Final

from harmonize.events import Event, Fact, Issue, Pointer, State, Value, Variant
from harmonize.genetics import genes, hgvs
from harmonize.genetics.genomics import Genes, denies
from harmonize.profile import Profile
from harmonize.resources import CodeableConcept, Coding, Observation, ObservationPart, Quantity
from harmonize.sources.facts import ABSENT_REASONS

LOINC: Final = "http://loinc.org"
COMPONENT: Final = "81291-7"
"""LOINC code of the component with ISCN text: it makes any Observation one about a karyotype."""

_VARIANT, _REGION = "69548-6", "53041-0"
_KARYOTYPES: Final = frozenset({"33893-9", "29770-5", "62356-1"})
OBSERVATIONS: Final = frozenset({_VARIANT, _REGION, *_KARYOTYPES})
"""LOINC codes of the Observations that are read here."""

_GENE, _CODING, _PROTEIN, _VAF = "48018-6", "48004-6", "48005-3", "81258-6"
_CHANGE, _NAME, _ORIGIN, _SIGNIFICANCE = "48019-4", "81252-9", "48002-0", "53037-8"
_MUTATIONS_TESTED: Final = "36908-2"  # a list of mutations: not the whole gene
_GENENAMES: Final = frozenset(
    f"{scheme}://www.genenames.org{path}" for scheme in ("http", "https") for path in ("", "/", "/geneId")
)
# LOINC answer list LL1971-2, to which the Variant profile binds its value.
_PRESENCE: Final = {"LA9633-4": True, "LA9634-2": False, "LA18198-4": None, "LA11884-6": None}
_ANSWERS: Final = {
    "LA9633-4": "present",
    "LA9634-2": "absent",
    "LA18198-4": "no call",
    "LA11884-6": "indeterminate",
    "LA6683-2": "germline",
    "LA6684-0": "somatic",
}
_GERMLINE: Final = "LA6683-2"
_BENIGN: Final = frozenset({"LA6675-8", "LA26334-5"})
# Sequence Ontology, as far as the examples and the profiles' features need it.
_ONTOLOGY: Final = {
    "SO:0000159": "deletion",
    "SO:0000667": "insertion",
    "SO:0001019": "copy number variation",
    "SO:0001483": "snv",
    "SO:0001583": "missense variant",
    "SO:0001587": "stop gained",
    "SO:0001589": "frameshift variant",
    "SO:0001742": "copy number gain",
    "SO:0001743": "copy number loss",
    "SO:0002062": "complex chromosomal rearrangement",
    "SO:0002073": "wild type",
    "SO:1000002": "substitution",
    "SO:1000032": "delins",
    "SO:1000035": "duplication",
    "SO:1000036": "inversion",
    "SO:1000044": "chromosomal translocation",
    "SO:1000173": "tandem duplication",
}
_SEVERAL: Final = 2


def concerns(observation: Observation) -> bool:
    """Whether `events` reads this Observation; cheap, because it is asked for every one."""
    return any(code in OBSERVATIONS for code in _loinc(observation)) or any(
        COMPONENT in _loinc(part) for part in observation.component
    )


def events(
    observation: Observation, patient: str, where: Pointer, time: dt.date | None, profile: Profile
) -> Iterator[Event | Issue]:
    """Translate one Observation that `concerns` us; its status is the caller's business.

    Genes that the profile has no variable for are left out without a word: they are nobody's business here.

    Args:
        observation: typed partial resource.
        patient: key of the subject.
        where: file and line (or entry).
        time: day of the sample; None if not stated.
        profile: which genes matter.
    """
    translator = _Translator(observation, patient, where, time, profile)
    codes = set(_loinc(observation))
    yield from translator.karyotype(named=bool(codes & _KARYOTYPES))
    if _VARIANT in codes:
        yield from translator.variant()
    elif _REGION in codes:
        yield from translator.region()


class _Translator:
    """One Observation."""

    def __init__(
        self, observation: Observation, patient: str, where: Pointer, time: dt.date | None, profile: Profile
    ) -> None:
        self._observation = observation
        self._patient = patient
        self._where = where
        self._time = time
        self._genes = Genes.of(profile)
        self._components = _by_code(observation.component)

    def karyotype(self, *, named: bool) -> Iterator[Event | Issue]:
        """The ISCN text of the Observation itself, if its code says that it is a karyotype, and of components."""
        parts = self._parts(COMPONENT)
        if named:
            parts = (self._observation, *parts)
        if not parts:
            return
        texts = {text for part in parts if (text := _text(part))}
        presence = self._presence() if _VARIANT in _loinc(self._observation) else True
        unsaid = any(part.data_absent_reason for part in (self._observation, *parts))
        if texts and (unsaid or presence is False):
            # "Absent: 46,XX", "not performed: 46,XX": they can be read as either.
            yield Issue("value-and-reason", self._where, Fact.KARYOTYPE)
        elif texts and presence is None:
            yield self._event(Fact.KARYOTYPE, None, State.UNKNOWN)
        elif texts:
            for text in sorted(texts):
                yield self._event(Fact.KARYOTYPE, text)
        elif reasons := [_reason(part) for part in parts if part.data_absent_reason]:
            yield self._event(Fact.KARYOTYPE, None, reasons[0])

    def region(self) -> Iterator[Event | Issue]:
        """The genes of a region studied. Named mutations of a gene are not the gene."""
        if self._parts(_MUTATIONS_TESTED):
            yield Issue("region-partial", self._where, Fact.GENES_TESTED)
            return
        found, issues = self._studied()
        yield from issues
        if self._observation.data_absent_reason:  # ordered, and not done or failed
            yield self._event(Fact.GENES_TESTED, None, _reason(self._observation))
        elif tested := found & self._genes.wanted:
            yield self._event(Fact.GENES_TESTED, frozenset(tested))

    def variant(self) -> Iterator[Event | Issue]:
        """Presence or absence of a variant."""
        found, issues = self._studied()
        used = sorted(found & self._genes.wanted)
        unknown = [issue for issue in issues if issue.code == "gene-unknown"]
        yield from issues
        if not used:
            return
        presence = self._presence()
        if isinstance(presence, Issue):
            yield presence
            return
        yield from self._mismatches((self._observation, *self._parts(_ORIGIN)), _ANSWERS)
        benign = presence is True and _BENIGN.intersection(self._answers(_SIGNIFICANCE))
        if _GERMLINE in self._answers(_ORIGIN):
            yield Issue("variant-germline", self._where, Fact.VARIANT)
            if presence is not False and not benign:
                # It may be why there is a disease (DDX41, CEBPA): no 0 of a panel beside it.
                yield from (self._event(Fact.VARIANT, Variant(gene, None)) for gene in used)
        elif presence is not False and len(found) + len(unknown) >= _SEVERAL:
            # A fusion or a deletion across genes: no mutation of either.
            yield Issue("variant-several-genes", self._where, Fact.VARIANT)
        elif benign:
            yield Issue("variant-benign", self._where, Fact.VARIANT)
        else:
            yield from self._findings(used, presence)

    def _findings(self, used: Iterable[int], presence: bool | None) -> Iterator[Event | Issue]:  # noqa: FBT001  a finding, not a switch
        vaf, issue = self._fraction()
        if issue is not None:
            yield Issue(issue, self._where, Fact.VARIANT)
        yield from self._mismatches(self._parts(_CHANGE), _ONTOLOGY)
        words = [_effect(part) for part in self._parts(_CHANGE)] + [_text(part) for part in self._parts(_NAME)]
        effect = " ".join(word for word in words if word)
        protein, coding = self._hgvs(_PROTEIN), self._hgvs(_CODING)
        for gene in used:
            variant = Variant(gene, presence, vaf, protein, coding, effect)
            if presence and denies(Variant(gene, presence, vaf, protein, coding, words[-1] if words else "")):
                yield Issue("variant-denied", self._where, Fact.VARIANT)
                variant = Variant(gene, None)
            yield self._event(Fact.VARIANT, variant)

    def _presence(self) -> bool | Issue | None:
        concept = self._observation.value_codeable_concept
        if self._observation.data_absent_reason:
            # "Absent, because not performed" is no negative result.
            return None if concept is None else Issue("value-and-reason", self._where, Fact.VARIANT)
        known = {code for code in _codes(concept, {LOINC}) if code in _PRESENCE}
        if len(known) == 1:
            return _PRESENCE[known.pop()]
        return Issue("variant-presence-unknown", self._where, Fact.VARIANT)

    def _studied(self) -> tuple[set[int], list[Issue]]:
        """Ids of all genes of the Observation, and what is odd about them."""
        found: set[int] = set()
        issues: list[Issue] = []
        for part in self._parts(_GENE):
            if part.data_absent_reason:  # this gene was not looked at, whatever stands beside the reason
                continue
            concept = part.value_codeable_concept
            named, mismatches = _coded_genes(concept.coding, self._genes) if concept is not None else ((), 0)
            found.update(named)
            if mismatches:
                issues += [Issue("code-display-mismatch", self._where, Fact.VARIANT)] * mismatches
            if not named and (text := _text(part)):
                if (known := self._genes.find(text)) is not None:
                    found.add(known)
                else:
                    issues.append(Issue("gene-unknown", self._where, Fact.VARIANT))
        return found, issues

    def _fraction(self) -> tuple[Decimal | None, str | None]:
        """The allele fraction, 0 … 1, and the code of an issue."""
        quantities = [part.value_quantity for part in self._parts(_VAF) if part.value_quantity]
        if not quantities:
            return None, None
        return fraction(quantities[0])

    def _mismatches(self, parts: Iterable[ObservationPart], known: Mapping[str, str]) -> Iterator[Issue]:
        for part in parts:
            concept = part.value_codeable_concept
            for coding in concept.coding if concept else ():
                meant = known.get(coding.code or "")
                if meant and coding.display and _contradicts(coding.display, meant, known):
                    yield Issue("code-display-mismatch", self._where, Fact.VARIANT)

    def _hgvs(self, code: str) -> str:
        return next((hgvs.bare(text) for part in self._parts(code) if (text := _text(part))), "")

    def _answers(self, code: str) -> set[str]:
        return {answer for part in self._parts(code) for answer in _codes(part.value_codeable_concept, {LOINC})}

    def _parts(self, code: str) -> Sequence[ObservationPart]:
        return self._components.get(code, ())

    def _event(self, fact: Fact, value: Value | None, state: State = State.VALUE) -> Event:
        return Event(self._patient, fact, value, self._where, None, self._time, state)


def fraction(quantity: Quantity) -> tuple[Decimal | None, str | None]:
    """An allele fraction from a Quantity: the fraction or None, and an issue code or None.

    | unit | value | fraction |
    |---|---|---|
    | % | 0 … 100 | a hundredth |
    | UCUM 1 | 0 … 1 | as it is |
    | no code, other words ("decimal") or none | 0 … 1 | as it is, with `vaf-unit-uncoded` |
    | another UCUM code | | None, `vaf-unit-unknown` |
    | any | outside | None, `vaf-range` |

    Of "<" and ">" the bound is taken: it decides on which side of a threshold the fraction lies.

    >>> fraction(Quantity(6.6, code="%")), fraction(Quantity(6.6, code="1"))
    ((Decimal('0.066'), None), (None, 'vaf-range'))
    >>> fraction(Quantity(0.066, unit="decimal"))
    (Decimal('0.066'), 'vaf-unit-uncoded')
    """
    if quantity.value is None:
        return None, None
    unit = quantity.code or ("%" if (quantity.unit or "").strip().lower() in ("%", "percent") else None)
    if unit not in (None, "%", "1"):
        return None, "vaf-unit-unknown"
    # repr is the shortest decimal that gives this float: the number as the laboratory wrote it.
    value = Decimal(repr(quantity.value)) / (100 if unit == "%" else 1)
    if not 0 <= value <= 1:
        return None, "vaf-range"
    return value, "vaf-unit-uncoded" if unit is None else None


def _loinc(part: ObservationPart) -> Collection[str]:
    if part.code is None:
        return ()
    return [coding.code for coding in part.code.coding if coding.code and coding.system == LOINC]


def _by_code(components: Iterable[ObservationPart]) -> dict[str, list[ObservationPart]]:
    """Components by their LOINC codes, looked through once: of a panel of genes there are fifty."""
    found: dict[str, list[ObservationPart]] = {}
    for part in components:
        for coding in part.code.coding if part.code is not None else ():
            if coding.code and coding.system == LOINC:
                parts = found.setdefault(coding.code, [])
                if not parts or parts[-1] is not part:
                    parts.append(part)
    return found


def _codes(concept: CodeableConcept | None, systems: Collection[str]) -> Iterator[str]:
    for coding in concept.coding if concept else ():
        if coding.code and (coding.system or "").rstrip("/") in systems:
            yield coding.code


@lru_cache(maxsize=4096)  # a panel names the same genes in every patient
def _coded_genes(codings: tuple[Coding, ...], ours: Genes) -> tuple[tuple[int, ...], int]:
    """HGNC ids of the codings of genenames.org, and how many of their displays name another gene.

    mCODE's own examples leave out the prefix of an id.
    """
    named: list[int] = []
    mismatches = 0
    for coding in codings:
        if coding.system in _GENENAMES and coding.code:
            number = genes.hgnc(f"HGNC:{coding.code}") or genes.hgnc(coding.code)
            if number is not None:
                named.append(number)
                stated = ours.find(coding.display or "")
                # Only where it touches a gene of ours: which one is meant is known by its id alone.
                mismatches += stated not in (None, number) and bool({stated, number} & ours.wanted)
    return tuple(named), mismatches


def _text(part: ObservationPart) -> str:
    """What a part says in words: its string, or text, code or display of its concept."""
    if part.value_string:
        return part.value_string.strip()
    concept = part.value_codeable_concept
    if concept is None:
        return ""
    coded = (_word(coding) for coding in concept.coding)
    return next((word for word in coded if word), (concept.text or "").strip())


def _word(coding: Coding) -> str:
    """The code of a system of notations (HGVS, ISCN), else the display: codes of other systems are no words."""
    notation = any(name in (coding.system or "").lower() for name in ("varnomen", "hgvs", "iscn"))
    return ((coding.code if notation else None) or coding.display or "").strip()


def _effect(part: ObservationPart) -> str:
    """The change type in words: of a code that is known, its own meaning; else what the source says."""
    concept = part.value_codeable_concept
    for coding in concept.coding if concept else ():
        if meant := _ONTOLOGY.get(coding.code or ""):
            return meant
    return _text(part)


def _reason(part: ObservationPart) -> State:
    codes = [coding.code or "" for coding in part.data_absent_reason.coding] if part.data_absent_reason else []
    return next((ABSENT_REASONS[code] for code in codes if code in ABSENT_REASONS), State.UNKNOWN)


def _contradicts(display: str, meant: str, known: Mapping[str, str]) -> bool:
    """Whether a display is the name of something else; other words for the same are none of our business."""
    words = " ".join(re.findall(r"[a-z]+", display.lower()))
    return words != meant and words in known.values()

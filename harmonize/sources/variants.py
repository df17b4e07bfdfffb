"""Delimited text with one row a variant: MAF, or a laboratory's list.

A file of variants says who has one; who was tested and has none it does not say. With `panel` in the mapping file,
every patient of the file had the genes of that panel tested, also one whose only row names no gene; with
`everyone_tested`, every patient of the mapping. Long tandem duplications were looked for only with
`tandem_duplications`: callers of short variants do not see them. A row whose words
deny the variant ("not detected") leaves its gene open.
"""

__all__ = ["everyone", "read"]

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final

from harmonize.errors import MappingError, SourceError
from harmonize.events import Event, Fact, Issue, Item, PatientRecord, Pointer, Variant
from harmonize.genetics import hgvs
from harmonize.genetics.genes import HGNC
from harmonize.genetics.genomics import Genes, denies
from harmonize.mapping import Variants
from harmonize.profile import Profile
from harmonize.pseudonyms import normalised
from harmonize.sources.decoding import Lines
from harmonize.sources.files import Readable, Strikes, opened
from harmonize.sources.numbers import Notation
from harmonize.spreadsheets import is_damaged, is_rounded_identifier

_COLUMNS: Final = ("gene", "protein", "coding", "effect", "vaf")
_DUPLICATIONS: Final = (("FLT3", "ITD"), ("KMT2A", "PTD"))
_FACTORS: Final = {"fraction": Decimal(1), "percent": Decimal("0.01")}
# FLT3_ITD, KMT2A-PTD: laboratories name the variant where the gene belongs.
_SUFFIXED: Final = re.compile(r"(?P<gene>.{1,64}?)[ _-]{1,8}(?P<effect>ITD|TKD|PTD)", re.IGNORECASE)


def read(source: Readable, mapping: Variants, profile: Profile) -> Iterator[Item]:
    """Read one file. Lines that start with # before the header, as in MAF, are comments.

    Raises:
        MappingError: a mapped column is not in the header, or the header has it twice.
        SourceError: not in the declared encoding, broken quoting, no header, or more than 1 % of the rows ragged.
    """
    with opened(source) as (stream, name):
        lines = Lines(stream, name, mapping.csv.encoding)
        if lines.marked:
            yield Issue("byte-order-mark", Pointer(name, 1))
        yield from _Reader(lines, name, mapping, profile).items()


def everyone(items: Iterable[Item], source: Variants, profile: Profile) -> Iterator[Item]:
    """Pass a stream on, and say of each of its patients of this source's system that the panel was tested."""
    evidence = _evidence(source, profile)
    for item in items:
        yield item
        if isinstance(item, PatientRecord) and item.system == source.patient.system:
            for fact, value in evidence:
                yield Event(item.keys[0], fact, value, item.where)


def _evidence(source: Variants, profile: Profile) -> tuple[tuple[Fact, frozenset[int] | Variant], ...]:
    """What the panel looked for in one patient, as far as the profile has variables for it."""
    if source.panel is None:
        return ()
    genes = Genes.of(profile).wanted.intersection(profile.panels[source.panel].genes)
    tested: list[tuple[Fact, frozenset[int] | Variant]] = [(Fact.GENES_TESTED, genes)] if genes else []
    if source.tandem_duplications:
        absent = [Variant(HGNC[symbol], present=False, effect=effect) for symbol, effect in _DUPLICATIONS]
        tested += [(Fact.VARIANT, variant) for variant in absent if variant.hgnc in genes]
    return tuple(tested)


class _Reader:
    """One pass over one file."""

    def __init__(self, lines: Lines, name: str, mapping: Variants, profile: Profile) -> None:
        self._rows = csv.reader(lines, delimiter=mapping.csv.delimiter, strict=True)
        self._name = name
        self._mapping = mapping
        self._genes = Genes.of(profile)
        self._evidence = _evidence(mapping, profile)
        self._notation = Notation(mapping.csv)
        self._factor = _FACTORS.get(mapping.vaf_unit or "", Decimal(1))
        self._tested: set[str] = set()
        self._unknown = 0
        self._first_unknown = 0

    def items(self) -> Iterator[Item]:
        header = self._header()
        index = self._index([name.strip() for name in header])
        strikes = Strikes(self._name, "row")
        while (cells := self._next()) is not None:
            if not any(cells):
                continue
            line = self._rows.line_num
            if len(cells) != len(header):
                yield Issue("row-ragged", Pointer(self._name, line))
                strikes.strike(line)
                continue
            strikes.good()
            yield from self._row({key: self._cell(cells[at]) for key, at in index.items()}, line)
        strikes.verdict()
        if self._unknown:
            # One for all: an exome has thousands of genes that no profile asks for.
            where = Pointer(self._name, self._first_unknown, self._mapping.gene)
            yield Issue("gene-unknown", where, Fact.VARIANT, self._unknown)

    def _header(self) -> list[str]:
        while (cells := self._next()) is not None:
            if any(cells) and not cells[0].startswith("#"):
                return cells
        raise SourceError(f"{self._name}: is empty; there is no header")

    def _next(self) -> list[str] | None:
        try:
            return next(self._rows, None)
        except csv.Error:
            raise SourceError(
                f"{self._name}: after line {self._rows.line_num}: broken quoting or an oversized cell; "
                "check the quotes there, and delimiter under [csv]"
            ) from None

    def _index(self, names: Sequence[str]) -> Mapping[str, int]:
        """What is mapped -> position of its column."""
        wanted = {"patient.column": self._mapping.patient.column}
        wanted |= {key: name for key in _COLUMNS if (name := getattr(self._mapping, key)) is not None}
        for place, name in wanted.items():
            if name not in names:
                # Never the whole header: in a file without one, the first row is a patient.
                raise MappingError(f"{self._name}: {place} names {name!r}, which is not in the header")
            if names.count(name) > 1:
                raise MappingError(f"{self._name}: the header has {name!r} twice; rename one of the columns")
        return {place: names.index(name) for place, name in wanted.items()}

    def _cell(self, text: str) -> str:
        """Without blanks; "" for every token that the mapping declares missing."""
        text = text.strip()
        return "" if text in self._mapping.csv.missing else text

    def _row(self, cells: Mapping[str, str], line: int) -> Iterator[Item]:
        identifier = normalised(cells["patient.column"])
        column = self._mapping.patient.column
        if not identifier:
            yield Issue("identifier-missing", Pointer(self._name, line, column))
            return
        if is_rounded_identifier(identifier):
            yield Issue("excel-identifier", Pointer(self._name, line, column))
            return
        patient = self._mapping.patient.key(identifier)
        where = Pointer(self._name, line, self._mapping.gene)
        if self._evidence and patient not in self._tested:
            self._tested.add(patient)
            for fact, value in self._evidence:
                yield Event(patient, fact, value, where)
        if cells["gene"]:
            yield from self._finding(cells, patient, where)

    def _finding(self, cells: Mapping[str, str], patient: str, where: Pointer) -> Iterator[Item]:
        gene, effect = self._gene(cells["gene"])
        if gene is None:
            if is_damaged(cells["gene"]):
                yield Issue("excel-date-damage", where, Fact.VARIANT)
            else:
                self._unknown += 1
                self._first_unknown = self._first_unknown or where.line
        elif gene in self._genes.wanted:
            vaf, issue = self._fraction(cells.get("vaf", ""))
            if issue is not None:
                yield Issue(issue, Pointer(self._name, where.line, self._mapping.vaf or ""), Fact.VARIANT)
            words = " ".join(word for word in (effect, cells.get("effect", "")) if word)
            protein, coding = hgvs.bare(cells.get("protein", "")), hgvs.bare(cells.get("coding", ""))
            variant = Variant(gene, True, vaf, protein, coding, words)  # noqa: FBT003  as the class has it
            if denies(variant):
                yield Issue("variant-denied", where, Fact.VARIANT)
                variant = Variant(gene, None)
            yield Event(patient, Fact.VARIANT, variant, where)

    def _gene(self, text: str) -> tuple[int | None, str]:
        """A gene's id, and the kind of variant that stands beside its name."""
        number = self._genes.find(text)
        if number is None and (match := _SUFFIXED.fullmatch(text)):
            return self._genes.find(match["gene"]), match["effect"].upper()
        return number, ""

    def _fraction(self, text: str) -> tuple[Decimal | None, str | None]:
        """The allele fraction, 0 … 1, and the code of an issue; of "<" and ">" the bound is taken."""
        if not text:
            return None, None
        parsed = self._notation.parse(text)
        if parsed is None:
            return None, "number-malformed"
        value = parsed[0] * self._factor
        return (value, None) if 0 <= value <= 1 else (None, "vaf-range")

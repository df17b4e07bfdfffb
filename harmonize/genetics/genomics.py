"""From a patient's findings about one gene to the value of one variable, and what is known about it.

Absent is not negative. A finding makes a variable true; false needs evidence that the gene was looked at (a list of
genes that were tested, a panel, or a finding "absent" for the whole gene); everything else stays open:

| what is known of the gene | value | state |
|---|---|---|
| a variant that counts and has the feature | true, or its allele fraction | VALUE |
| otherwise: a variant of which the feature cannot be told; no call | None | UNKNOWN |
| otherwise: looked for, and no variant with the feature | false | TESTED_NEGATIVE |
| otherwise: only variants without the feature, below `min_vaf`, or one of several absent | None | UNKNOWN |
| nothing | None | NOT_TESTED |

A variant counts if it is present, small (no translocation, inversion, copy number change), not silent, and its allele
fraction is not stated or at least `min_vaf`. FLT3-ITD and KMT2A-PTD count as variants of their genes, too. But a gene
on a list of tested genes was tested for short variants: most callers do not see long tandem duplications, so for these
two features, and for "any variant" of their genes, the source must also say that the duplication was looked for
(a finding "absent" for it, or for the whole gene).

| feature | true if |
|---|---|
| any | one variant counts |
| vaf | as any; the value is the largest stated fraction |
| itd | one is called ITD, or inserts ≥ 3 bases in exons 14 and 15 of FLT3 |
| tkd | one is called TKD, or changes residues in frame in exon 20 of FLT3 (D835, I836, …) |
| ptd | one is called PTD, or a duplication of exons |
| bzip | one inserts or deletes residues in frame in the basic leucine zipper of CEBPA |
| multi-hit | two distinct ones count, or one with a fraction above 0.55 or with loss of 17p or LOH (TP53) |
| biallelic | two distinct ones count |

Sources. TP53: Bernard et al., Nat Med 2020;26:1549, and IPSS-M (NEJM Evid 2022;1(7)), whose threshold of 0.55 this is;
ICC 2022 takes 0.50 and asks for 0.10 each if there are two, WHO 2022 asks for two, or one with loss. FLT3: Döhner et
al. (ELN 2022), Blood 2022;140:1345. CEBPA: ELN 2022 and Taube et al., Blood 2022;139:87 (in-frame, bZIP); missense is
not counted: the favourable group are the in-frame insertions and deletions (Georgi et al., Leukemia 2024;38:281).
"""

__all__ = ["Genes", "denies", "value"]

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Final

from harmonize.events import State, Variant
from harmonize.genetics import hgvs
from harmonize.genetics.genes import HGNC, hgnc
from harmonize.genetics.hgvs import Kind
from harmonize.profile import Profile
from harmonize.variables import VariantVariable

_FLT3, _KMT2A, _CEBPA, _TP53 = (HGNC[symbol] for symbol in ("FLT3", "KMT2A", "CEBPA", "TP53"))

# Residues. FLT3 (NM_004119): exons 14 and 15, exon 20. CEBPA (NM_004364, 358 residues): basic region and zipper.
_ITD_REGION: Final = (569, 647)
_TKD_REGION: Final = (807, 847)
_TKD_HOT: Final = (835, 836)
_BZIP: Final = (278, 358)
_UNCHANGED: Final = frozenset({"p.=", "p.(=)"})
_DUPLICATED: Final = {_FLT3: "itd", _KMT2A: "ptd"}
_ITD_SHORTEST: Final = 3  # bases
_LOSS_VAF: Final = Decimal("0.55")  # above it, the other allele is lost or a copy of this one

_ITD_WORDS: Final = re.compile(r"(?<![a-z])itd(?![a-z])|internal[ -]tandem|tandem[ -]duplication|so:1000173")
_TKD_WORDS: Final = re.compile(r"(?<![a-z])tkd(?![a-z])|tyrosine kinase domain")
_PTD_WORDS: Final = re.compile(r"(?<![a-z])ptd(?![a-z])|(?:partial )?tandem[ -]duplication|so:1000173")
_EXON: Final = r"e(?:x(?:ons?)?)?\.? ?[0-9]{1,2}"
_EXONS_DUPLICATED: Final = re.compile(
    # Of text whose hyphens and underscores are blanks: "ex2-ex10dup", "duplication of exons 2-8".
    rf"dup[a-z]{{0,12}} ?(?:of )?\(?{_EXON}|{_EXON}(?: to | through | ?)(?:{_EXON}|[0-9]{{1,2}})\)? ?dup"
)
# Words of a kind of variant (MAF, Sequence Ontology, VEP) that settles every feature above without a position.
_POINT_WORDS: Final = re.compile(
    r"missense|nonsense|non synonymous|nonsynonymous|stop gained|frame ?shift|splice|substitution|snv|"
    r"(?<![a-z])sub(?![a-z])|point|in ?frame del|inframe codon loss|start lost|initiator|stop lost"
)
_SILENT: Final = re.compile(
    r"silent|synonymous(?: variant| codon)?|intron(?:ic)?(?: variant)?|[35]'? ?(?:prime )?(?:utr|flank).*|igr|"
    r"intergenic.*|rna|linc ?rna|.*upstream.*|.*downstream.*|stop retained.*|wild ?type|"
    r"so:(?:0001819|0001588|0001627|0001624|0001623|0001631|0001632|0001628|0001567|0002073)"
)
_LOSS: Final = re.compile(
    r"copy number loss|(?:cn|copy neutral) ?loh|loss of heterozygosity|(?<![a-z])loh(?![a-z])|so:(?:0001743|0001786)"
)
_STRUCTURAL: Final = re.compile(
    rf"{_LOSS.pattern}|copy number|(?<![a-z])cn(?:v|a)(?![a-z])|amplification|translocation|fusion|inversion|"
    r"rearrangement|so:(?:0001019|0001742|1000036|1000044|0000199|0001565|0002062)"
)

# A row of a list may say that there is nothing: "NPM1, not detected", "FLT3-ITD negative".
_DENIAL: Final = re.compile(
    r"(?<!dominant )(?<![a-z])(?:neg(?:ative?)?|wt|wild ?type|wildtyp|unmutated|unmutiert|absent|undetect(?:ed|able)"
    r"|(?:not|nicht) (?:detected|detectable|found|mutated|present|identified|nachgewiesen|nachweisbar|mutiert)"
    r"|(?:no|kein|keine|ohne) (?:[a-z]+ )?(?:mutation|variant|alteration|change|nachweis|variante)s?)(?![a-z0-9])"
)

Verdict = bool | None
"""Whether a variant, or all of a gene together, has a feature; None if that cannot be told."""


@dataclass(frozen=True, slots=True, eq=False)  # by identity, so that what is known of them can be cached
class Genes:
    """The genes that matter to a profile, and their names.

    Attributes:
        wanted: HGNC ids of the genes that the profile has variables for.
        names: symbols of the profile's own, in capitals -> id.
    """

    wanted: frozenset[int]
    names: Mapping[str, int]

    @classmethod
    def of(cls, profile: Profile) -> "Genes":
        """Of one profile; made once, because sources ask for every finding."""
        known = _GENES.get(profile.digest)
        if known is None:
            variables = [variable for variable in profile.scalars if isinstance(variable, VariantVariable)]
            known = _GENES[profile.digest] = cls(
                frozenset(variable.gene.hgnc for variable in variables),
                {symbol.upper(): each.gene.hgnc for each in variables for symbol in each.gene.symbols},
            )
        return known

    def find(self, text: str) -> int | None:
        """The id of a gene, by its id or one of its symbols, the profile's or HGNC's."""
        return self.names.get(text.strip().upper()) or hgnc(text)


_GENES: Final[dict[str, Genes]] = {}


def value(
    variable: VariantVariable,
    variants: Collection[Variant],
    tested: Collection[int],
    loss17p: bool | None,  # noqa: FBT001  a finding, not a switch
) -> tuple[Decimal | bool | None, State]:
    """The variable's value from all findings of one patient; see the tables of this module.

    Args:
        variable: gene, feature and smallest fraction that counts.
        variants: every finding of the patient, of any gene, in any order.
        tested: HGNC ids of genes that were tested for short variants, with or without a finding.
        loss17p: whether the karyotype has del(17p), i(17q) or −17; None if there is none. For TP53 alone.

    Returns:
        true and VALUE (for `vaf`: the fraction), false and TESTED_NEGATIVE, or None and UNKNOWN or NOT_TESTED.
    """
    gene = variable.gene.hgnc
    known = [variant for variant in variants if variant.hgnc == gene]
    found = [variant for variant in known if variant.present and _counts(variant, variable.min_vaf)]
    verdict = _verdict(variable, found, _lost(gene, known, loss17p))
    if verdict is True:
        return _positive(variable, found)
    if verdict is None or any(variant.present is None and _about(variable, variant) for variant in known):
        return None, State.UNKNOWN
    if _looked_for(variable, [variant for variant in known if variant.present is False], listed=gene in tested):
        return False, State.TESTED_NEGATIVE
    return None, State.UNKNOWN if known or gene in tested else State.NOT_TESTED


def denies(variant: Variant) -> bool:
    """Whether its words say that there is no variant; descriptions in HGVS have no words.

    >>> denies(Variant(7910, True, protein="not detected")), denies(Variant(3765, True, effect="FLT3-ITD negative"))
    (True, True)
    >>> denies(Variant(11998, True, protein="p.R248Q", effect="dominant negative missense"))
    False
    """
    return _denies(_named(variant))


@lru_cache(maxsize=4096)  # reports repeat few words
def _denies(named: str) -> bool:
    return named.strip() in ("none", "normal") or _DENIAL.search(named) is not None


def _lost(gene: int, known: Collection[Variant], loss17p: Verdict) -> Verdict:
    """Whether the other allele of TP53 is lost, by the karyotype or by a copy number finding of the gene itself."""
    if gene != _TP53:
        return None
    return True if any(each.present and _LOSS.search(_words(each.effect)) for each in known) else loss17p


def _verdict(variable: VariantVariable, found: list[Variant], loss17p: Verdict) -> Verdict:
    match variable.feature:
        case "any" | "vaf":
            return bool(found)
        case "multi-hit":
            return _multi_hit(found, loss17p)
        case "biallelic":
            return _two(found)
        case feature:
            return _any(_CLASSES[feature](variant) for variant in found)


def _positive(variable: VariantVariable, found: list[Variant]) -> tuple[Decimal | bool | None, State]:
    if variable.feature != "vaf":
        return True, State.VALUE
    fractions = [variant.vaf for variant in found if variant.vaf is not None]
    return (max(fractions), State.VALUE) if fractions else (None, State.UNKNOWN)


def _counts(variant: Variant, min_vaf: Decimal) -> bool:
    return (variant.vaf is None or variant.vaf >= min_vaf) and _matters(variant.effect, variant.protein)


@lru_cache(maxsize=4096)  # asked for every variable of a gene, and most variants differ in their fraction only
def _matters(written: str, protein: str) -> bool:
    """Whether a variant is small and not silent."""
    effect = _words(written)
    if _STRUCTURAL.search(effect):
        return False
    change = hgvs.protein(protein)
    # A splice variant may be silent on paper (p.T125= of TP53); a source that knows better says "splice".
    if protein in _UNCHANGED or (change is not None and change.kind is Kind.SILENT):
        return "splice" in effect
    parts = [part.strip() for part in re.split(r"[&,;|/]", effect) if part.strip()]
    return not parts or not all(_SILENT.fullmatch(part) for part in parts)


def _about(variable: VariantVariable, variant: Variant) -> bool:
    """Whether a finding without a result leaves the variable open: all but one of another class do."""
    judge = _CLASSES.get(variable.feature)
    return judge is None or _whole_gene(variant) or judge(variant) is not False


def _looked_for(variable: VariantVariable, absent: Collection[Variant], *, listed: bool) -> bool:
    """Whether everything that would have the feature was looked for; `listed`: the gene, for short variants."""
    if any(_whole_gene(variant) for variant in absent):
        return True
    if variable.feature in _CLASSES:
        return (listed and variable.feature not in _DUPLICATED.values()) or _class_absent(variable.feature, absent)
    duplication = _DUPLICATED.get(variable.gene.hgnc)
    return listed and (duplication is None or _class_absent(duplication, absent))


def _class_absent(feature: str, absent: Collection[Variant]) -> bool:
    """Whether "absent" is said of the whole class: of one variant it says nothing of others."""
    return any(not (each.protein or each.coding) and _CLASSES[feature](each) is True for each in absent)


def _whole_gene(variant: Variant) -> bool:
    return not (variant.protein or variant.coding or variant.effect)


def _any(verdicts: Iterable[Verdict]) -> Verdict:
    """Three-valued "or": true if one is, open if one is open, else false."""
    listed = list(verdicts)
    return True if True in listed else None if None in listed else False


def _multi_hit(found: list[Variant], loss17p: Verdict) -> Verdict:
    if not found:
        return False
    two = _two(found)
    if two is True or loss17p is True or any(variant.vaf is not None and variant.vaf > _LOSS_VAF for variant in found):
        return True
    # One hit is one hit only if both ways to lose the other allele are excluded.
    if two is None or loss17p is None or any(variant.vaf is None for variant in found):
        return None
    return False


def _two(found: list[Variant]) -> Verdict:
    """Whether at least two are distinct: one variant may be reported twice, at two levels, or in two notations."""
    codings = {_key(variant.coding, hgvs.coding) for variant in found} - {""}
    proteins = {_key(variant.protein, hgvs.protein) for variant in found} - {""}
    if max(len(codings), len(proteins)) > 1:
        return True
    same = all(_key(variant.coding, hgvs.coding) for variant in found) or all(
        _key(variant.protein, hgvs.protein) for variant in found
    )
    return False if len(found) < 2 or same else None


def _key(text: str, read: Callable[[str], hgvs.Protein | hgvs.Coding | None]) -> str:
    parsed = read(text)
    return parsed.key if parsed else ""


def _words(text: str) -> str:
    if not text:
        return text
    return re.sub(r"[\s_-]+", " ", text).strip().lower()


def _named(variant: Variant) -> str:
    """Everything in words: laboratories write "FLT3-ITD" into the column that they have."""
    return f"{_words(variant.effect)} {_words(variant.protein)} {_words(variant.coding)}"


def _itd(variant: Variant) -> Verdict:
    named = _named(variant)
    change, bases = hgvs.protein(variant.protein), hgvs.coding(variant.coding)
    if re.search(r"(?<![a-z])itd(?![a-z])|internal tandem", named):
        return True
    if variant.hgnc != _FLT3:
        return _by_words(named)
    if change is not None:
        grows = change.in_frame_indel and (change.gain or 0) > 0
        return grows and change.within(*_ITD_REGION)
    if bases is not None:
        if bases.kind is Kind.SUBSTITUTION or not bases.within(*_bases(_ITD_REGION)):
            return False
        return None if bases.gain is None else bases.gain >= _ITD_SHORTEST
    return True if _ITD_WORDS.search(named) else _by_words(named)


def _tkd(variant: Variant) -> Verdict:
    named = _named(variant)
    change, bases = hgvs.protein(variant.protein), hgvs.coding(variant.coding)
    if _TKD_WORDS.search(named):
        return True
    if variant.hgnc != _FLT3 or re.search(r"(?<![a-z])itd(?![a-z])|internal tandem", named):
        return False
    if change is not None:
        return (change.in_frame_indel or change.kind is Kind.SUBSTITUTION) and change.within(*_TKD_REGION)
    if bases is not None:
        if not bases.within(*_bases(_TKD_REGION)):
            return False
        # Bases alone do not tell a missense from a stop, except where only missense is known.
        certain = bases.in_frame_indel or bases.within(*_bases(_TKD_HOT))
        return True if certain else None
    return False if re.search(r"nonsense|stop gained|frame ?shift|splice", named) else None


def _ptd(variant: Variant) -> Verdict:
    named = _named(variant)
    if re.search(r"(?<![a-z])ptd(?![a-z])|partial tandem", named) or _EXONS_DUPLICATED.search(named):
        return True
    change, bases = hgvs.protein(variant.protein), hgvs.coding(variant.coding)
    if change is not None:
        return False
    if bases is not None:
        # A duplication by bases may be of whole exons: the transcript would have to be looked up.
        return None if bases.kind is Kind.DUPLICATION and not (bases.gain or 300) < 300 else False
    return True if _PTD_WORDS.search(named) else _by_words(named)


def _bzip(variant: Variant) -> Verdict:
    if variant.hgnc != _CEBPA:
        return False
    named = _named(variant)
    if "bzip" in named and re.search(r"in ?frame", named):
        return True
    change, bases = hgvs.protein(variant.protein), hgvs.coding(variant.coding)
    if change is not None:
        return change.in_frame_indel and change.within(*_BZIP)
    if bases is not None:
        if bases.kind is Kind.SUBSTITUTION or not bases.within(*_bases(_BZIP)):
            return False
        return None if bases.gain is None else bases.in_frame_indel
    return False if re.search(r"missense|nonsense|stop gained|frame ?shift|non ?synonymous", named) else None


def _by_words(named: str) -> Verdict:
    """For features of duplications, if there is no position: a point mutation is none; an insertion may be one."""
    return False if _POINT_WORDS.search(named) or _TKD_WORDS.search(named) else None


def _bases(residues: tuple[int, int]) -> tuple[int, int]:
    return 3 * residues[0] - 2, 3 * residues[1]


_CLASSES: Final[Mapping[str, Callable[[Variant], Verdict]]] = {"itd": _itd, "tkd": _tkd, "ptd": _ptd, "bzip": _bzip}

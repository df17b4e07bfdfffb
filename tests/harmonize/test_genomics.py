"""From findings to a variable's value: what makes it true, what makes it false, and what leaves it open."""

from collections.abc import Collection
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonize.events import State, Variant
from harmonize.genetics.genes import HGNC
from harmonize.genetics.genomics import value
from harmonize.variables import Gene, MissingPolicy, Scale, VariantVariable

FEATURES = ("any", "itd", "tkd", "ptd", "multi-hit", "bzip", "biallelic", "vaf")
FLT3, KMT2A, CEBPA, TP53, NPM1 = (HGNC[symbol] for symbol in ("FLT3", "KMT2A", "CEBPA", "TP53", "NPM1"))
GENE = {
    "any": TP53,
    "vaf": TP53,
    "itd": FLT3,
    "tkd": FLT3,
    "ptd": KMT2A,
    "bzip": CEBPA,
    "biallelic": CEBPA,
    "multi-hit": TP53,
}
Result = tuple[Decimal | bool | None, State]
YES: Result = (True, State.VALUE)
NO: Result = (False, State.TESTED_NEGATIVE)
OPEN: Result = (None, State.UNKNOWN)
NOTHING: Result = (None, State.NOT_TESTED)


def variable(feature: str, gene: int | None = None, min_vaf: str = "0.02") -> VariantVariable:
    return VariantVariable.model_validate(
        {
            "name": "v",
            "title": "v",
            "kind": "variant",
            "gene": Gene(hgnc=gene or GENE[feature], symbols=("X",)),
            "feature": feature,
            "min_vaf": min_vaf,
            "scale": Scale(centre=Decimal(0), spread=Decimal(1), clip=(Decimal(0), Decimal(1)), source="by definition"),
            "missing": MissingPolicy(max_rate=Decimal(1)),
        }
    )


def ask(
    feature: str,
    *variants: Variant,
    tested: Collection[int] = (),
    loss17p: bool | None = None,
    gene: int | None = None,
) -> Result:
    return value(variable(feature, gene), variants, tested, loss17p)


@pytest.mark.parametrize("protein", ["p.=", "p.(=)", "p.R110="])
def test_an_unchanged_protein_is_no_mutation(protein: str) -> None:
    assert ask("any", Variant(NPM1, protein=protein), tested=(NPM1,), gene=NPM1) == NO
    assert ask("any", Variant(NPM1, protein=protein, effect="splice_region"), gene=NPM1) == YES


def flt3(protein: str = "", coding: str = "", effect: str = "", vaf: str | None = None) -> Variant:
    return Variant(FLT3, True, None if vaf is None else Decimal(vaf), protein, coding, effect)


def tp53(protein: str, vaf: str | None = "0.3", coding: str = "") -> Variant:
    return Variant(TP53, True, None if vaf is None else Decimal(vaf), protein, coding)


# What is evidence


@pytest.mark.parametrize("feature", FEATURES)
def test_nothing_known_is_not_tested(feature: str) -> None:
    assert ask(feature) == NOTHING
    assert ask(feature, Variant(NPM1), tested={NPM1}) == NOTHING


@pytest.mark.parametrize("feature", FEATURES)
def test_tested_without_a_finding_is_negative(feature: str) -> None:
    gene = GENE[feature]

    if feature not in {"itd", "ptd"}:
        assert ask(feature, tested={gene}) == NO
    assert ask(feature, Variant(gene, present=False)) == NO


@pytest.mark.parametrize(("feature", "gene", "word"), [("itd", FLT3, "ITD"), ("ptd", KMT2A, "PTD")])
def test_a_list_of_tested_genes_is_about_short_variants(feature: str, gene: int, word: str) -> None:
    # In BeatAML, whose exomes show no ITD, it would call all 149 patients with one negative.
    looked_for = Variant(gene, present=False, effect=word)

    for asked in (feature, "any", "vaf"):
        assert ask(asked, gene=gene, tested={gene}) == OPEN
        assert ask(asked, looked_for, gene=gene, tested={gene}) == NO
    assert ask(feature, looked_for, gene=gene) == NO
    assert ask("any", looked_for, gene=gene) == OPEN
    assert ask("tkd", tested={FLT3}) == NO


@pytest.mark.parametrize("feature", FEATURES)
def test_a_call_that_failed_is_open_even_if_the_gene_was_on_the_list(feature: str) -> None:
    gene = GENE[feature]

    assert ask(feature, Variant(gene, present=None)) == OPEN
    assert ask(feature, Variant(gene, present=None), tested={gene}) == OPEN
    assert ask(feature, Variant(gene, present=None), Variant(gene, present=False)) == OPEN


def test_absence_of_one_variant_says_nothing_of_the_gene() -> None:
    absent = Variant(HGNC["JAK2"], False, None, "p.V617F")

    assert ask("any", absent, gene=HGNC["JAK2"]) == OPEN
    assert ask("any", absent, gene=HGNC["JAK2"], tested={HGNC["JAK2"]}) == NO


def test_absence_of_a_class_is_evidence_for_the_class_alone() -> None:
    absent = Variant(FLT3, False, effect="ITD")

    assert ask("itd", absent) == NO
    assert ask("tkd", absent) == OPEN
    assert ask("any", absent, gene=FLT3) == OPEN
    assert ask("tkd", Variant(FLT3, False, None, "p.D835Y")) == OPEN


def test_a_failed_call_of_another_class_does_not_matter() -> None:
    assert ask("tkd", Variant(FLT3, None, effect="ITD"), tested={FLT3}) == NO
    assert ask("itd", Variant(FLT3, None, effect="ITD"), Variant(FLT3, present=False)) == OPEN


@pytest.mark.parametrize("feature", ["any", "vaf", "multi-hit", "biallelic"])
def test_below_the_threshold_neither_positive_nor_evidence(feature: str) -> None:
    low = Variant(TP53, True, Decimal("0.019"), "p.R175H")

    assert ask(feature, low, gene=TP53) == OPEN
    assert ask(feature, low, gene=TP53, tested={TP53}) == NO
    assert ask("any", Variant(TP53, True, Decimal("0.02"), "p.R175H"), gene=TP53) == YES


def test_without_a_stated_fraction_a_variant_counts() -> None:
    assert ask("any", tp53("p.R175H", None), gene=TP53) == YES


@pytest.mark.parametrize(
    "effect",
    [
        "copy_number_variation",
        "SO:0001019",
        "chromosomal_translocation",
        "gene_fusion",
        "cnLOH",
        "Silent",
        "synonymous_variant",
        "Intron",
        "3'UTR",
        "5'Flank",
        "IGR",
        "intron_variant&downstream_gene_variant",
        "wild type",
    ],
)
def test_what_is_no_small_coding_variant_does_not_count(effect: str) -> None:
    assert ask("any", Variant(TP53, effect=effect), gene=TP53, tested={TP53}) == NO
    assert ask("any", Variant(TP53, effect=effect), gene=TP53) == OPEN


@pytest.mark.parametrize(
    "effect", ["missense_variant", "Splice_Site", "Sub", "splice_region_variant&synonymous_variant", "SO:0001583", ""]
)
def test_other_kinds_count(effect: str) -> None:
    assert ask("any", Variant(TP53, effect=effect), gene=TP53) == YES


def test_a_silent_protein_change_counts_only_as_a_splice_variant() -> None:
    silent = Variant(TP53, protein="p.T125=", coding="c.375G>A")

    assert ask("any", silent, gene=TP53, tested={TP53}) == NO
    assert ask("any", Variant(TP53, protein="p.T125=", effect="splice_variant"), gene=TP53) == YES


# Features


@pytest.mark.parametrize(
    ("variant", "itd", "tkd"),
    [
        (flt3(effect="ITD"), True, False),
        (flt3("FLT3_ITD", effect="ITD"), True, False),
        (flt3(effect="internal tandem duplication"), True, False),
        (flt3(effect="tandem duplication"), True, None),
        (flt3("p.Y599_D600insDYVDFREY"), True, False),
        (flt3("NP_004110.2:p.(Glu598_Tyr599dup)"), True, False),
        (flt3("p.D593_F594insX", "c.1770_1793dup"), True, False),
        (flt3(coding="c.1770_1793dup"), True, False),
        (flt3(coding="c.1803_1804insACG"), True, False),
        (flt3(coding="c.1803_1804insAC"), False, False),
        (flt3(effect="In-frame ins"), None, None),
        (flt3(effect="insertion"), None, None),
        (flt3("p.N841_D842insG"), False, True),
        (flt3("p.D835Y"), False, True),
        (flt3("p.Asp835Tyr"), False, True),
        (flt3("p.I836del", effect="In-frame del"), False, True),
        (flt3(coding="c.2503G>T"), False, True),
        (flt3(coding="c.2522A>T"), False, None),
        (flt3(effect="FLT3-TKD"), False, True),
        (flt3("p.D835fs*3"), False, False),
        (flt3("p.N676K"), False, False),
        (flt3("p.Y572C"), False, False),
        (flt3("p.V592_D593del"), False, False),
        (flt3("p.Y597fs*9"), False, False),
        (flt3(effect="missense"), False, None),
        (flt3(effect="Nonsense"), False, False),
        (flt3(), None, None),
    ],
)
def test_flt3(variant: Variant, itd: bool | None, tkd: bool | None) -> None:
    # A deletion in exon 14 is no duplication; a point mutation never is; both are FLT3 mutations.
    answers = {True: YES, False: NO, None: OPEN}

    assert ask("itd", variant, Variant(FLT3, present=False, effect="ITD")) == answers[itd]
    assert ask("tkd", variant, tested={FLT3}) == answers[tkd]
    assert ask("any", variant, gene=FLT3) == YES


def test_one_open_variant_leaves_the_feature_open_unless_another_decides() -> None:
    unclear = flt3(effect="In-frame ins")

    assert ask("itd", unclear, flt3("p.D835Y"), Variant(FLT3, present=False, effect="ITD")) == OPEN
    assert ask("itd", unclear, flt3(effect="ITD"), tested={FLT3}) == YES


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        (Variant(KMT2A, effect="PTD"), YES),
        (Variant(KMT2A, protein="MLL_PTD", effect="PTD"), YES),
        (Variant(KMT2A, effect="partial tandem duplication"), YES),
        (Variant(KMT2A, effect="duplication of exons 2-8"), YES),
        (Variant(KMT2A, coding="ex2-ex10dup"), YES),
        (Variant(KMT2A, effect="SO:1000173"), YES),
        (Variant(KMT2A, protein="p.Q266*"), NO),
        (Variant(KMT2A, coding="c.379C>T"), NO),
        (Variant(KMT2A, coding="c.1654_1655insC", effect="frameshift_variant"), NO),
        (Variant(KMT2A, coding="c.433_3634dup"), OPEN),
        (Variant(KMT2A, effect="missense_variant"), NO),
        (Variant(KMT2A, effect="duplication"), OPEN),
    ],
)
def test_kmt2a_ptd(variant: Variant, expected: Result) -> None:
    assert ask("ptd", variant, Variant(KMT2A, present=False, effect="PTD")) == expected
    assert ask("any", variant, gene=KMT2A) == YES


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        (Variant(CEBPA, protein="p.K313dup"), YES),
        (Variant(CEBPA, protein="p.Lys313_Val314insLysGln"), YES),
        (Variant(CEBPA, protein="p.N293delN"), YES),
        (Variant(CEBPA, coding="c.937_939dup"), YES),
        (Variant(CEBPA, effect="in-frame bZIP"), YES),
        (Variant(CEBPA, protein="p.R300L"), NO),
        (Variant(CEBPA, protein="p.Q311fs*11"), NO),
        (Variant(CEBPA, protein="p.P127_G128del"), NO),
        (Variant(CEBPA, coding="c.931_932insTCGC"), NO),
        (Variant(CEBPA, coding="c.68_69insC"), NO),
        (Variant(CEBPA, effect="In-frame ins"), OPEN),
        (Variant(CEBPA), OPEN),
    ],
)
def test_cebpa_bzip(variant: Variant, expected: Result) -> None:
    assert ask("bzip", variant, tested={CEBPA}) == expected


@pytest.mark.parametrize(
    ("variants", "loss17p", "expected"),
    [
        ([], None, NO),
        ([], True, NO),
        ([tp53("p.R175H")], False, NO),
        ([tp53("p.R175H")], True, YES),
        ([tp53("p.R175H")], None, OPEN),
        ([tp53("p.R175H", "0.55")], False, NO),
        ([tp53("p.R175H", "0.551")], None, YES),
        ([tp53("p.R175H", None)], False, OPEN),
        ([tp53("p.R175H"), tp53("p.Y220C")], None, YES),
        ([tp53("p.R175H"), tp53("p.Y220C", "0.01")], False, NO),
        ([tp53("p.R175H"), tp53("p.Arg175His", "0.2")], False, NO),
        ([tp53("p.R175H", coding="c.524G>A"), tp53("p.R175H", coding="c.524G>A")], False, NO),
        ([tp53("p.?", coding="c.376-2A>T"), tp53("p.?", coding="c.782+1G>A")], False, YES),
        ([tp53("p.R175H"), tp53("", coding="c.659A>G")], False, OPEN),
        ([tp53(""), tp53("")], False, OPEN),
    ],
)
def test_tp53_multi_hit(variants: list[Variant], loss17p: bool | None, expected: Result) -> None:
    # IPSS-M (papaemmelab/ipssm, IPSSMprocess, maxvafloh 0.55): two or more mutations, or one with loss; one without
    # knowledge of loss is neither.
    assert ask("multi-hit", *variants, tested={TP53}, loss17p=loss17p) == expected


@pytest.mark.parametrize(
    "effect", ["cnLOH", "copy-neutral LOH", "copy_number_loss", "SO:0001743", "loss of heterozygosity"]
)
def test_a_loss_of_the_gene_itself_is_the_second_hit(effect: str) -> None:
    lost = Variant(TP53, effect=effect)

    assert ask("multi-hit", tp53("p.R175H"), lost, loss17p=False) == YES
    assert ask("multi-hit", lost, tested={TP53}) == NO
    assert ask("multi-hit", tp53("p.R175H"), Variant(TP53, False, effect=effect), tested={TP53}, loss17p=False) == NO
    assert ask("any", lost, tested={TP53}) == NO


def test_loss_of_17p_is_of_tp53_alone() -> None:
    assert ask("multi-hit", Variant(FLT3, True, Decimal("0.3"), "p.D835Y"), gene=FLT3, loss17p=True) == OPEN


def test_biallelic_is_two_distinct_variants() -> None:
    first, second = Variant(CEBPA, protein="p.H24fs*84"), Variant(CEBPA, protein="p.K313dup")

    assert ask("biallelic", first, second) == YES
    assert ask("biallelic", first, tested={CEBPA}) == NO
    assert ask("biallelic", first, first, tested={CEBPA}) == NO
    assert ask("biallelic", first, Variant(CEBPA), tested={CEBPA}) == OPEN


def test_vaf_is_the_largest_that_counts() -> None:
    low, high = tp53("p.R175H", "0.12"), tp53("p.Y220C", "0.4")

    assert ask("vaf", low, high, gene=TP53) == (Decimal("0.4"), State.VALUE)
    assert ask("vaf", tp53("p.R175H", None), gene=TP53, tested={TP53}) == OPEN
    assert ask("vaf", tested={TP53}, gene=TP53) == NO


# Invariants

_VARIANTS = st.lists(
    st.builds(
        Variant,
        st.sampled_from([FLT3, KMT2A, CEBPA, TP53]),
        st.sampled_from([True, True, False, None]),
        st.none() | st.decimals(0, 1, places=3),
        st.sampled_from(["", "p.D835Y", "p.E598_Y599dup", "p.K313dup", "p.R175H", "p.?", "p.T125=", "FLT3_ITD"]),
        st.sampled_from(["", "c.2503G>T", "c.524G>A", "c.1770_1793dup", "c.376-2A>T"]),
        st.sampled_from(["", "ITD", "PTD", "missense", "In-frame ins", "Silent", "fusion"]),
    ),
    max_size=4,
)
_QUESTION = st.tuples(
    st.sampled_from(FEATURES),
    _VARIANTS,
    st.frozensets(st.sampled_from([FLT3, KMT2A, CEBPA, TP53])),
    st.sampled_from([True, False, None]),
)


@given(_QUESTION, st.randoms())
def test_order_and_other_genes_do_not_matter(
    question: tuple[str, list[Variant], frozenset[int], bool | None], random: object
) -> None:
    feature, variants, tested, loss17p = question
    gene = GENE[feature]
    shuffled = variants.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    own = [variant for variant in shuffled if variant.hgnc == gene]

    expected = value(variable(feature, gene), variants, tested, loss17p)
    assert value(variable(feature, gene), own + own, tested & {gene}, loss17p) == expected


@given(_QUESTION)
def test_value_and_state_fit(question: tuple[str, list[Variant], frozenset[int], bool | None]) -> None:
    feature, variants, tested, loss17p = question
    found, state = ask(feature, *variants, tested=tested, loss17p=loss17p)

    assert state in {State.VALUE, State.TESTED_NEGATIVE, State.UNKNOWN, State.NOT_TESTED}
    assert (found is None) == (state in {State.UNKNOWN, State.NOT_TESTED})
    assert (found is False) == (state is State.TESTED_NEGATIVE)
    if state is State.VALUE:
        assert isinstance(found, Decimal) if feature == "vaf" else found is True
        assert any(variant.present for variant in variants)
    if state is State.TESTED_NEGATIVE:
        gene = GENE[feature]
        absent = any(variant.hgnc == gene and variant.present is False for variant in variants)
        assert absent or (gene in tested and feature not in {"itd", "ptd"})


@given(_QUESTION)
def test_more_evidence_never_turns_a_finding_over(
    question: tuple[str, list[Variant], frozenset[int], bool | None],
) -> None:
    feature, variants, tested, loss17p = question
    gene = GENE[feature]
    before, _ = ask(feature, *variants, tested=tested, loss17p=loss17p)
    after, _ = ask(feature, *variants, tested=tested | {gene}, loss17p=loss17p)

    if before is not None:
        assert after == before
    if feature == "any" and before is not True:
        assert ask(feature, *variants, Variant(gene, present=False), tested=tested, loss17p=loss17p)[0] is not True

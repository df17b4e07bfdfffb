"""Genes: ids transcribed from public lists, names that laboratories still write, and what is no gene."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonize import profile as profiles
from harmonize.genetics.genes import HGNC, SYMBOL, hgnc
from harmonize.genetics.genomics import Genes

# ValueSet mii-vs-mtb-panel-cgp, v2027.0.0-ballot.1 of the MII's molecular tumour board module; the last line from
# RefSeq, Ensembl and UniProt.
LISTED = """
TP53 11998 SF3B1 10768 ASXL1 18318 RUNX1 10471 TET2 25941 DNMT3A 2978 SRSF2 10783 U2AF1 12453 ZRSR2 23019 NPM1 7910
FLT3 3765 IDH1 5382 IDH2 5383 EZH2 3527 STAG2 11355 BCOR 20893 BCORL1 25657 CBL 1541 NRAS 7989 KRAS 6407 NF1 7765
PTPN11 9644 JAK2 6192 KIT 6342 CEBPA 1833 WT1 12796 PHF6 18145 ETV6 3495 GATA2 4171 PPM1D 9277 SETBP1 15573
DDX41 18674 KMT2A 7132 RAD21 9811 SMC1A 11111 SMC3 2468 CUX1 2557 MPL 7217 CSF3R 2439 CALR 1455 BRAF 1097 GNAS 4392
SH2B3 29605 CREBBP 2348 EP300 3373 KMT2C 13726 KMT2D 7133 IKZF1 13176 MECOM 3498 NSD2 12766 FGFR3 3690 CCND1 1582
MAF 6776 MYC 7553 DIS3 20604 TENT5C 24712 TRAF3 12033 CYLD 2584 CDKN2C 1789 CKS1B 19083
GNB1 4396 PRPF8 17340 ETNK1 24649 UBA1 12469 MAFB 6408 KMT2E 18541
"""
EARLIER = {
    "MLL": "KMT2A",
    "MLL2": "KMT2D",
    "MLL3": "KMT2C",
    "MLL5": "KMT2E",
    "FAM46C": "TENT5C",
    "WHSC1": "NSD2",
    "MMSET": "NSD2",
    "FAM175A": "ABRAXAS1",
    "AML1": "RUNX1",
    "EVI1": "MECOM",
    "H3F3A": "H3-3A",
}


def test_ids_are_the_listed_ones() -> None:
    words = LISTED.split()
    for symbol, number in zip(words[::2], words[1::2], strict=True):
        assert (hgnc(symbol), SYMBOL[int(number)]) == (int(number), symbol)


@pytest.mark.parametrize(("old", "new"), EARLIER.items())
def test_an_earlier_name_is_the_same_gene(old: str, new: str) -> None:
    assert hgnc(old) == HGNC[new]


def test_one_id_has_one_approved_symbol() -> None:
    assert len(set(SYMBOL.values())) == len(SYMBOL)
    assert set(HGNC.values()) == set(SYMBOL)
    assert not set(EARLIER) & set(SYMBOL.values())


@given(st.integers(1, 99999))
def test_an_id_is_itself(number: int) -> None:
    assert hgnc(f"HGNC:{number}") == number
    assert hgnc(str(number)) is None  # may be of NCBI Gene


@given(st.sampled_from(sorted(HGNC)), st.booleans(), st.sampled_from(["", " ", "\t"]))
def test_case_and_blanks_do_not_matter(symbol: str, lower: bool, blank: str) -> None:
    assert hgnc(blank + (symbol.lower() if lower else symbol) + blank) == HGNC[symbol]


@pytest.mark.parametrize(
    "text", ["", "HGNC:", "HGNC:0", "HGNC:123456", "HGNC:1 2", "ENSG00000141510", "1-Mar", "TP53;"]
)
def test_what_is_no_gene_is_none(text: str) -> None:
    assert hgnc(text) is None


@pytest.mark.parametrize("name", ["mds", "aml", "cmml", "mm"])
def test_profiles_agree_with_the_list(name: str) -> None:
    profile = profiles.load(name)
    genes = Genes.of(profile)

    assert genes.wanted
    for variable in profile.scalars:
        if variable.kind == "variant":
            assert {hgnc(symbol) for symbol in variable.gene.symbols} <= {variable.gene.hgnc, None}
            assert SYMBOL.get(variable.gene.hgnc, variable.gene.symbols[0]) == variable.gene.symbols[0]
            assert genes.find(variable.gene.symbols[0]) == variable.gene.hgnc


def test_a_profile_may_name_genes_that_the_list_lacks() -> None:
    assert Genes(frozenset({1}), {"NEWGENE1": 1}).find("newgene1") == 1

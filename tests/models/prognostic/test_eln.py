import numpy as np
import pytest

from models.prognostic.eln import ADVERSE_GENES, ELN_2022
from tests.models.prognostic.people import NAN, people

F, I, A = "favourable", "intermediate", "adverse"  # noqa: E741 -- the table's three columns


def risk(*found: str, **values: float) -> str:
    tp53 = {"mut_tp53_vaf": 0.0} | values
    result = ELN_2022.of(people(ELN_2022, **(dict.fromkeys(found, 1.0) | tp53)))
    assert result.points[0] == result.category[0] or np.isnan(result.points[0])
    return result.label(result.category)[0]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        # Döhner 2022, Table 6, line by line
        ("", I),
        ("cyto_t8_21", F),
        ("cyto_inv16", F),
        ("mut_npm1", F),
        ("mut_cebpa_bzip", F),
        ("mut_npm1 mut_flt3_itd", I),
        ("mut_flt3_itd", I),
        ("cyto_t9_11 cyto_kmt2a_r", I),
        ("cyto_t6_9", A),
        ("cyto_kmt2a_r", A),
        ("cyto_t9_22", A),
        ("cyto_mecom_r", A),
        ("cyto_minus5", A),
        ("cyto_del5q", A),
        ("cyto_minus7", A),
        ("cyto_del17p", A),
        ("cyto_complex", A),
        ("cyto_monosomal", A),
        *[(f"mut_{symbol}", A) for symbol in ADVERSE_GENES],
        # its footnotes: NPM1 with adverse cytogenetics; t(9;11); complex and class-defining; favourable and genes
        ("mut_npm1 cyto_minus7", A),
        ("mut_npm1 cyto_complex", A),
        ("cyto_t9_11 cyto_kmt2a_r mut_asxl1", I),
        ("cyto_t9_11 cyto_kmt2a_r cyto_complex", I),
        ("cyto_t8_21 cyto_complex", F),
        ("cyto_inv16 cyto_monosomal", F),
        ("mut_npm1 mut_srsf2", F),
        ("mut_cebpa_bzip mut_stag2", F),
        ("cyto_t8_21 mut_asxl1", F),
        ("mut_flt3_itd mut_runx1", A),
        # what no footnote decides, as this implementation reads it
        ("mut_npm1 mut_flt3_itd mut_runx1", A),
        ("mut_cebpa_bzip cyto_minus7", A),
        ("cyto_t8_21 cyto_minus7", F),
        ("cyto_t9_11 cyto_kmt2a_r cyto_minus7", A),
        ("mut_cebpa_bzip mut_npm1 mut_flt3_itd", F),
    ],
)
def test_each_line_of_the_table(found: str, expected: str) -> None:
    assert risk(*found.split()) == expected


@pytest.mark.parametrize(
    ("vaf", "found", "expected"),
    [
        (0.10, "", A),
        (0.0999, "", I),
        (NAN, "", ""),
        (0.4, "mut_npm1", A),
        (0.05, "mut_npm1", F),
        (0.4, "cyto_t8_21", F),
        (0.4, "cyto_t9_11 cyto_kmt2a_r", I),
        (NAN, "cyto_minus7", A),
    ],
)
def test_tp53_counts_from_a_tenth_of_the_alleles(vaf: float, found: str, expected: str) -> None:
    assert risk("mut_tp53", *found.split(), mut_tp53_vaf=vaf) == expected


def test_a_gene_that_was_not_tested_is_not_wild_type() -> None:
    assert risk(mut_asxl1=NAN) == ""
    assert risk("mut_bcor", mut_asxl1=NAN) == A
    assert risk("mut_npm1", mut_asxl1=NAN) == F
    assert risk("mut_npm1", mut_flt3_itd=NAN) == ""
    assert risk(mut_npm1=NAN) == ""
    assert risk("mut_flt3_itd", mut_npm1=NAN) == I
    assert risk("cyto_minus7", mut_npm1=NAN, mut_asxl1=NAN) == A


def test_not_for_promyelocytic_leukaemia() -> None:
    result = ELN_2022.of(people(ELN_2022, cyto_t15_17=[1.0, 0.0, NAN], mut_tp53_vaf=0.0))

    assert result.excluded.tolist() == [True, False, False]
    assert result.label(result.category) == ["", I, I]
    assert np.isnan(result.points).tolist() == [True, False, False]

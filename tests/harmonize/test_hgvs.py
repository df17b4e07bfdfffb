"""HGVS descriptions: one variant has one key, however a laboratory wrote it; what is half understood is nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonize.genetics.hgvs import Coding, Kind, Protein, coding, protein

THREE = {
    "A": "Ala", "R": "Arg", "N": "Asn", "D": "Asp", "C": "Cys", "Q": "Gln", "E": "Glu", "G": "Gly", "H": "His",
    "I": "Ile", "L": "Leu", "K": "Lys", "M": "Met", "F": "Phe", "P": "Pro", "S": "Ser", "T": "Thr", "W": "Trp",
    "Y": "Tyr", "V": "Val",
}  # fmt: skip
RESIDUES = st.sampled_from(sorted(THREE))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("p.D835Y", Protein(Kind.SUBSTITUTION, 835, 835, 0)),
        ("p.Gln590Ter", Protein(Kind.NONSENSE, 590, 590)),
        ("p.W288fs*12", Protein(Kind.FRAMESHIFT, 288, 288)),
        ("p.Y631fs*>5", Protein(Kind.FRAMESHIFT, 631, 631)),
        ("p.W288Cfs*12", Protein(Kind.FRAMESHIFT, 288, 288)),
        ("p.I836del", Protein(Kind.DELETION, 836, 836, -1)),
        ("p.N356_C357delNC", Protein(Kind.DELETION, 356, 357, -2)),
        ("p.V314_L315dup", Protein(Kind.DUPLICATION, 314, 315, 2)),
        ("p.K313_V314insKQ", Protein(Kind.INSERTION, 313, 314, 2)),
        ("p.E697_K700delinsDP", Protein(Kind.DELETION_INSERTION, 697, 700, -2)),
        ("p.E598_Y599ins*", Protein(Kind.NONSENSE, 598, 599)),
        ("p.T125=", Protein(Kind.SILENT, 125, 125, 0)),
        ("p.T125T", Protein(Kind.SILENT, 125, 125, 0)),
        ("p.M1V", Protein(Kind.EXTENSION, 1, 1)),
        ("p.*394Rext*9", Protein(Kind.EXTENSION, 394, 394)),
        ("p.R248X", Protein(Kind.NONSENSE, 248, 248)),
    ],
)
def test_protein(text: str, expected: Protein) -> None:
    found = protein(text)

    assert found is not None
    assert (found.kind, found.first, found.last, found.gain) == (
        expected.kind,
        expected.first,
        expected.last,
        expected.gain,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("c.2503G>T", Coding(Kind.SUBSTITUTION, 2503, 2503, 0)),
        ("c.595_610del16", Coding(Kind.DELETION, 595, 610, -16)),
        ("c.683_686delACTG", Coding(Kind.DELETION, 683, 686, -4)),
        ("c.860_861insCTGC", Coding(Kind.INSERTION, 860, 861, 4)),
        ("c.1803_1804ins(30)", Coding(Kind.INSERTION, 1803, 1804, 30)),
        ("c.1770_1793dup", Coding(Kind.DUPLICATION, 1770, 1793, 24)),
        ("c.2091_2099delGCAGCAGAAinsCCC", Coding(Kind.DELETION_INSERTION, 2091, 2099, -6)),
        ("c.376-2A>T", Coding(Kind.SUBSTITUTION, 376, 376, 0, exonic=False)),
        ("c.86_87+2delAAgt", Coding(Kind.DELETION, 86, 87, None, exonic=False)),
    ],
)
def test_coding(text: str, expected: Coding) -> None:
    found = coding(text)

    assert found is not None
    assert (found.kind, found.first, found.last, found.gain, found.exonic) == (
        expected.kind,
        expected.first,
        expected.last,
        expected.gain,
        expected.exonic,
    )


@pytest.mark.parametrize(
    "text", ["", "p.?", "p.X125_splice", "FLT3_ITD", "D835Y", "p.D835", "p.D0Y", "p.D9_D8del", "c.2503G>T", "p.D835YY"]
)
def test_no_protein_description(text: str) -> None:
    assert protein(text) is None


@pytest.mark.parametrize("text", ["", "c.?", "p.D835Y", "2503G>T", "c.2503", "c.9_8del", "c.5insA>T", "g.28592642C>A"])
def test_no_coding_description(text: str) -> None:
    assert coding(text) is None


@given(RESIDUES, st.integers(2, 3000), RESIDUES, st.sampled_from(["", "NP_004110.2:", "ENSP0000(FLT3):"]))
def test_a_point_mutation_has_one_key(old: str, at: int, new: str, reference: str) -> None:
    forms = (f"p.{old}{at}{new}", f"p.{THREE[old]}{at}{THREE[new]}", f"p.({THREE[old]}{at}{THREE[new]})")
    found = {protein(reference + form) for form in forms}

    assert len(found) == 1
    assert found.pop() == protein(f" p.{old}{at}{new} ")


@given(st.integers(1, 5000), st.integers(0, 60), st.text("ACGT", min_size=1, max_size=9))
def test_deleted_and_duplicated_bases_may_be_repeated(at: int, more: int, bases: str) -> None:
    for change in ("del", "dup"):
        forms = (f"c.{at}_{at + more}{change}", f"NM_1.2:c.{at}_{at + more}{change}{bases}")
        found = [coding(form) for form in forms]
        assert found[0] is not None
        assert found[0] == found[1]
        assert found[0].gain == (more + 1) * (-1 if change == "del" else 1)


@given(st.text(max_size=60))
def test_anything_is_read_or_refused(text: str) -> None:
    for level, read in (("p.", protein), ("c.", coding)):
        found = read(level + text)
        assert found is None or found.last >= found.first

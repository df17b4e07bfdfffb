"""Known answers, written by hand in the notation of ISCN 2020 with the rules of docs/reference/karyotype.md."""

from typing import Final

import pytest

from harmonize.karyotype import CRYPTIC, FEATURES, parse

COUNTS: Final = {"abnormalities", "ipssr_class", "normal", "complex", "monosomal"}


def found(text: str) -> set[str]:
    """Names of the findings of a karyotype, without counts and classes."""
    return {name for name, value in parse(text).features.items() if value and name not in COUNTS}


def classed(text: str) -> tuple[int, int]:
    """Number of abnormalities and class of the IPSS-R."""
    features = parse(text).features
    return features["abnormalities"], features["ipssr_class"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("46,XX[20]", ""),
        ("46,XY,del(5)(q13q33)[12]/46,XY[8]", "del5q"),
        ("46,XX,del(5)(q?)[5]/46,XX[15]", "del5q"),
        ("46,XX,del(5q)[20]", "del5q"),
        ("46,XX,add(5)(q22)[20]", "del5q"),  # what lies beyond the breakpoint is gone
        ("46,XX,add(5)(p15)[20]", ""),
        ("45,XX,dic(5;17)(q13;p11.2)[20]", "del5q del17p"),
        ("45,XY,der(5;17)(p10;q10)[20]", "del5q del17p"),
        ("46,XY,i(5)(p10)[20]", "del5q"),
        ("46,XY,r(5)(p15q31)[20]", "del5q"),
        ("46,XX,der(5)t(5;7)(q15;p22)[20]", "del5q"),
        ("46,XX,t(5;12)(q33;p13)[20]", ""),  # balanced: nothing is lost
        ("45,XY,-5[20]", "minus5"),
        ("45,XY,-7[20]", "minus7"),
        ("46,XY,-7,+mar[20]", "minus7"),
        ("46,XX,del(7)(q22q34)[20]", "del7q"),
        ("46,XY,+1,der(1;7)(q10;p10)[20]", "del7q gain1q"),
        ("46,XY,der(7)t(1;7)(q10;p10)[20]", "del7q gain1q"),
        ("46,XY,-7,+der(7)t(7;11)(q22;q13)[20]", "del7q"),  # one chromosome 7 is the derivative: no monosomy
        ("46,XY,add(7)(p22)[5]/46,idem,-add(7),+del(7)(q22)[5]", "del7q"),  # the one takes the place of the other
        ("47,XY,+del(7)(q22)[20]", ""),  # two whole ones beside it
        ("47,XX,+8[3]/46,XX[17]", "plus8"),
        ("47,XX,+19[20]", "plus19"),
        ("47,XX,+21[20]", "plus21"),
        ("47,XX,+21c[20]", ""),
        ("46,XX,del(20)(q11.2q13.1)[20]", "del20q"),
        ("45,X,-Y[20]", "minus_y"),
        ("45,X,-X[20]", ""),
        ("45,X[12]/46,XY[8]", "minus_y"),
        ("46,XX,i(17)(q10)[20]", "i17q del17p"),
        ("46,XX,iso(17q)[20]", "i17q del17p"),
        ("46,XX,del(17)(p13)[20]", "del17p"),
        ("45,XX,-17[20]", "del17p"),
        ("46,XX,inv(3)(q21q26.2)[20]", "inv3 mecom_r"),
        ("46,XX,t(3;3)(q21;q26.2)[20]", "inv3 mecom_r"),
        ("46,XX,t(3;21)(q26;q22)[20]", "inv3 mecom_r"),
        ("46,XX,t(3;5)(q25;q35)[20]", "inv3"),
        ("46,XX,t(3;12)(p21;p13)[20]", ""),
        ("46,XX,del(3)(q21)[20]", "inv3"),
        ("46,XX,del(11)(q14q23)[20]", "del11q"),
        ("46,XX,del(12)(p11p13)[20]", "del12p"),
        ("46,XX,del(9)(q13q22)[20]", "del9q"),
        ("46,XX,del(13)(q12q14)[20]", "del13q"),
        ("45,XX,-13[20]", "del13q"),
        ("46,XX,del(13)[20]", "del13q"),  # its short arm has nothing to lose
        ("46,XX,i(13)[20]", ""),
        ("46,XX,idic(13)[20]", ""),
        ("46,XX,add(14)[20]", ""),
        ("46,XX,t(8;21)(q22;q22)[20]", "t8_21"),
        ("46,XX,t(8;21)(q22;q22.1)[20]", "t8_21"),
        ("46,XX,t(8;13;21)(q22;q14;q22)[20]", "t8_21"),
        ("46,XX,t(8;21)[20]", "t8_21"),
        ("46,XX,t(8;21)(p11;q22)[20]", ""),  # another rearrangement of the same chromosomes
        ("46,XX,inv(16)(p13.1q22)[20]", "inv16"),
        ("46,XX,t(16;16)(p13.1;q22)[20]", "inv16"),
        ("46,XX,del(16)(q22)[20]", ""),
        ("46,XX,t(15;17)(q24;q21)[20]", "t15_17"),
        ("46,XX,t(15;17)(q22;q12)[20]", "t15_17"),
        ("46,XX,t(9;11)(p21.3;q23.3)[20]", "t9_11 kmt2a_r"),
        ("46,XX,t(11;19)(q23;p13.1)[20]", "kmt2a_r"),
        ("46,XX,t(11;17)(q23;q25)[20]", "kmt2a_r"),
        ("46,XX,t(11;17)(q23;q21)[20]", ""),  # ZBTB16::RARA
        ("XX,+3,+5,+7,+9,+11,+15,+19[10]", "hyperdiploid plus19"),  # the count by its items
        ("64,XX,+8[20]", "plus8"),  # 46 with its digits changed about
        ("46,XX,ins(10;11)(p12;q23q13)[20]", "kmt2a_r"),
        ("46,XX,del(11)(q23)[20]", "del11q"),
        ("46,XX,t(6;9)(p22;q34)[20]", "t6_9"),
        ("46,XX,t(9;22)(q34;q11.2)[20]", "t9_22"),
        ("46,XX,t(4;14)(p16;q32)[20]", "t4_14"),
        ("46,XX,t(11;14)(q13;q32)[20]", "t11_14"),
        ("46,XX,t(14;16)(q32;q23)[20]", "t14_16"),
        ("46,XX,t(14;20)(q32;q12)[20]", "t14_20"),
        ("46,XX,dup(1)(q21q32)[20]", "gain1q"),
        ("46,XX,der(16)t(1;16)(q12;q11.2)[20]", "gain1q"),
        ("46,XX,der(1)t(1;19)(q21;p13),der(19)t(1;19)(q21;p13)[20]", ""),  # both derivatives: balanced
        ("47,XX,+1[20]", "gain1q"),
        ("46,XX,del(1)(p13p22)[20]", "del1p"),
        ("53,XY,+3,+5,+7,+9,+11,+15,+19[10]/46,XY[10]", "hyperdiploid plus19"),
        ("47,XY,+9[10]/46,XY[10]", ""),
        ("47,XY,+9[10]/49,idem,+5,+7[1]/46,XY[10]", ""),  # one cell is no clone
        ("46,XX,t(3;3)(p21;q26)[20]", "inv3"),
        ("46,XX,inv(3)(p21q26)[20]", ""),
        ("46,XX,der(1)t(1;1)(p36;q21)[20]", "gain1q del1p"),
        ("46,X,idic(X)(q13)[20]", ""),
        ("46,XX,idic(17)(p11.2)[20]", "del17p"),
    ],
)
def test_findings(text: str, names: str) -> None:
    assert found(text) == set(names.split())
    assert found(text.lower()) == found(text.upper().replace("IDEM", "idem")) == set(names.split())


@pytest.mark.parametrize(
    ("text", "number", "ipssr_class"),
    [
        ("46,XX[20]", 0, 1),
        ("Normal", 0, 1),
        ("45,X,-Y[20]", 1, 0),
        ("45,X,-Y,-Y[9]/46,XY[11]", 1, 0),
        ("46,XX,del(11)(q14)[20]", 1, 0),
        ("46,XX,del(5)(q13q33)[20]", 1, 1),
        ("46,XX,add(5)(q22)[20]", 1, 2),  # the class knows del(5q) only
        ("46,XX,del(12)(p12)[20]", 1, 1),
        ("46,XX,del(20)(q12)[20]", 1, 1),
        ("46,XX,del(7)(q22)[20]", 1, 2),
        ("47,XX,+8[20]", 1, 2),
        ("47,XX,+19[20]", 1, 2),
        ("46,XX,i(17)(q10)[20]", 1, 2),
        ("47,XX,+21[20]", 1, 2),
        ("45,XX,-7[20]", 1, 3),
        ("46,XX,inv(3)(q21q26)[20]", 1, 3),
        ("46,XX,t(3;7)(q26;q21)[20]", 1, 3),
        ("46,XX,del(3)(q21q26)[20]", 1, 3),
        ("47,XX,del(5)(q13q33),+8[20]", 2, 1),
        ("46,XX,del(5)(q13q33)[9]/46,XX,idem,del(20)(q12)[11]", 2, 1),
        ("46,XX,del(5)(q13q33)[9]/47,XX,+8[11]", 2, 2),  # independent clones
        ("45,X,-Y[10]/46,XY,del(20)(q12)[10]", 2, 2),
        ("45,XX,-7[10]/47,XX,+8[10]", 2, 2),
        ("46,XX,-7,+8[20]", 2, 3),
        ("45,XX,del(5)(q13q33),-7[20]", 2, 3),
        ("47,XX,+8,del(9)(q22)[20]", 2, 2),
        ("46,XY,+1,der(1;7)(q10;p10)[20]", 2, 3),
        ("45,XY,der(1;7)(q10;p10)[20]", 2, 3),
        ("46,XX,del(5)(q13q33),del(7)(q22),del(20)(q12)[20]", 3, 3),
        ("47,XX,del(5)(q13q33),del(7)(q22),+8,del(20)(q12)[20]", 4, 4),
        ("46,XX,del(9)(q22)[5]/47,XX,+8[5]/46,XX,del(20)(q12)[5]", 3, 2),  # three clones, one abnormality each
        ("47,XY,+8,del(9)(q22),del(11)(q13)[9]/46,XY,del(20)(q12)[5]", 4, 4),
        ("48,XY,+8,+8[20]", 2, 2),
        ("49,XY,+3mar[20]", 3, 3),
        ("47~49,XY,+1~3mar[cp20]", 1, 2),
        ("48,XY,+mar1,+mar2[20]", 2, 2),
        ("92,XXYY[5]/46,XY[15]", 1, 2),
        ("46,XX,del(5)(q31q33)[9]/92,XXXX,del(5)(q31q33)x2[3]", 2, 1),
        ("88<4n>,XXYY,-5,-7,-7,-21[12]", 4, 4),
        ("92,XXYY,del(9)(q22)x2[5]/92,XXYY,del(20)(q12)x2[5]", 3, 2),  # to be polyploid makes no relatives
        ("47,XX,del(5)(q31),+del(5)(q31)[20]", 1, 1),  # one more of the same
        ("60,XX,+1,+2,+3[20]", 3, 3),  # counted from two sets
        ("60,XXX,-1,-2,-3[20]", 4, 4),  # from three, and that counts itself
        ("46,XY,dmin[20]", 1, 2),
        ("46,XY,?del(6)(q21)[20]", 1, 2),
        ("46,XY,add(3)(p13)or del(3)(p14p21)[20]", 1, 2),
    ],
)
def test_counts_and_class(text: str, number: int, ipssr_class: int) -> None:
    assert classed(text) == (number, ipssr_class)


@pytest.mark.parametrize(
    ("text", "complex_", "monosomal"),
    [
        ("45,XX,-7[20]", 0, 0),
        ("44,XX,-5,-7[20]", 0, 1),
        ("45,XX,-7,del(5)(q31)[20]", 0, 1),
        ("46,XX,-7,+mar[20]", 0, 1),
        ("45,X,-Y,-7,+8[20]", 1, 0),  # a sex chromosome and a trisomy make no monosomal karyotype
        ("44,X,-Y,t(8;21)(q22;q22),-7[20]", 1, 0),  # Breems 2008 leaves core-binding factor leukaemia out
        ("45,XX,-5[9]/45,XX,-7[11]", 0, 0),  # two clones
        ("90<4n>,XXXX,-5,-7[20]", 1, 0),  # three left of each
        ("46,XX,del(5)(q31),-7,+der(7)t(7;11)(p22;q13)[20]", 0, 0),
    ],
)
def test_complex_and_monosomal(text: str, complex_: int, monosomal: int) -> None:
    features = parse(text).features
    assert (features["complex"], features["monosomal"]) == (complex_, monosomal)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("47,XX,+8[2]/46,XX[18]", 1),
        ("47,XX,+8[1]/46,XX[19]", 0),
        ("45,XX,-7[3]/46,XX[17]", 1),
        ("45,XX,-7[2]/46,XX[18]", 0),
        ("45,XX,-7[1]/46,XX,-7,+8[2]/46,XX[17]", 2),  # three cells in all have lost 7
        ("46,XX,del(5)(q31)[2]/46,XX[18]", 1),
        ("46,XX,del(5)(q31)[1]/46,XX[19]", 0),
        ("46,XX,del(5)(q31)[1]/46,XX,idem,del(20)(q12)[1]/46,XX[18]", 1),
        ("47,XX,+8[9]/48,XX,+8,+21[1]/46,XX[10]", 1),
        ("45,XX,del(5)(q31)[3],-7[9]/46,XX[11]", 2),
        ("45,XX,del(5)(q31)[1],-7[9]/46,XX[11]", 1),
        ("47,XX,+8[6+3]/46,XX[11]", 1),
        ("45,XX,-7[1+2]/46,XX[11]", 1),
        ("47,XX,+8[cp2]", 1),
        ("47,XX,+8", 1),
        ("92,XXXX,del(5)(q31)x2[1]/46,idem[5]", 1),  # one cell is tetraploid, six have the deletion
    ],
)
def test_an_item_is_clonal_in_two_cells_and_a_loss_in_three(text: str, number: int) -> None:
    assert parse(text).features["abnormalities"] == number


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("47,XY,+8[9]/48,idem,+21[3]", "47,XY,+8[9]/48,XY,+8,+21[3]"),
        ("47,XY,+8[9]/48,sl,+21[3]/49,sdl,+19[4]", "47,XY,+8[9]/48,XY,+8,+21[3]/49,XY,+8,+21,+19[4]"),
        ("47,XY,+8[9]/48,sl,+21[3]/48,sl,+9[3]/49,sdl1,+19[4]",
         "47,XY,+8[9]/48,XY,+8,+21[3]/48,XY,+8,+9[3]/49,XY,+8,+21,+19[4]"),
        ("47,XY,+8[9]/46,idem,-8,del(9)(q22)[3]", "47,XY,+8[9]/46,XY,del(9)(q22)[3]"),
        ("46,XY,add(5)(q31)[5]/46,idem,-add(5),+del(5)(q31q33)[5]", "46,XY,add(5)(q31)[5]/46,XY,del(5)(q31q33)[5]"),
        ("46,XY,del(5)(q13q33)[5]/47,XY,del(5),+8[5]", "46,XY,del(5)(q13q33)[5]/47,XY,del(5)(q13q33),+8[5]"),
        ("46,XY,del(5)(q)[5]/47,XY,del(5)(q13q33),+8[5]", "46,XY,del(5)(q13q33)[5]/47,XY,del(5)(q13q33),+8[5]"),
        ("46,XY,der(13)t(6;13)(q11;p11)[5]/47,idem,-der(13)t(6;13),+13,+8[5]",
         "46,XY,der(13)t(6;13)(q11;p11)[5]/47,XY,+13,+8[5]"),
    ],
)  # fmt: skip
def test_references_and_abbreviations(short: str, full: str) -> None:
    one, other = parse(short).features, parse(full).features
    assert one.keys() == other.keys() == FEATURES.keys()
    assert {n: v for n, v in one.items() if n != "ipssr_class"} == {
        n: v for n, v in other.items() if n != "ipssr_class"
    }


def test_the_word_complex_is_a_lower_bound() -> None:
    said = parse("komplexer Karyotyp")
    assert said.incomplete
    assert (said.features["complex"], said.features["abnormalities"], said.features["ipssr_class"]) == (1, 3, 3)


@pytest.mark.parametrize(
    ("text", "sex"),
    [
        ("46,XX[20]", "XX"), ("45,X,-Y[9]/46,XY[11]", "XY"), ("45,X,-X[20]", "XX"), ("47,XX,+X[20]", "XX"),
        ("46,X,i(X)(q10)[20]", "XX"), ("46,X,der(Y)[20]", "XY"), ("46,Y,t(X;7)(p11;q22)[20]", "XY"),
        ("47,XXY[20]", None), ("48,XXYc,+X[20]", None), ("47,XXX,+X[20]", "XX"), ("92,XXYY[20]", "XY"),
        ("46,XX[9]/46,XY[11]", None), ("del(5q)", None),
    ],
)  # fmt: skip
def test_sex_chromosomes(text: str, sex: str | None) -> None:
    assert parse(text).sex == sex


def test_the_patient_s_sex_says_what_45_x_has_lost() -> None:
    assert classed("45,X[20]") == (1, 2)
    assert parse("45,X[20]", "XY").features["minus_y"] == 1
    assert parse("45,X[20]", "XY").features["ipssr_class"] == 0
    assert parse("45,X[20]", "XX").features["ipssr_class"] == 2
    assert not parse("45,X[20]", "XX").incomplete
    assert parse("45,Xc[20]").features["normal"] == 1
    assert parse("45,X[12]/46,XX[8]", "XY").features["minus_y"] == 0  # the text wins


def test_every_feature_is_always_there() -> None:
    for text in ("46,XX", "normal", "complex", "5q-", "45,XY,-7[9]/46,XY[11]"):
        assert parse(text).features.keys() == FEATURES.keys()
    assert FEATURES.keys() > CRYPTIC
    with pytest.raises(TypeError):
        parse("46,XX").features["normal"] = 0  # type: ignore[index]


@pytest.mark.parametrize("text", ["46,XX,r(7)[12]", "47,XX,+r(7)[12]"])
def test_a_ring_of_a_known_chromosome_is_no_marker(text: str) -> None:
    # Which arms it lacks is not said: 0 in 7q would be a guess.
    assert parse(text).incomplete


@pytest.mark.parametrize("text", ["45,XY,der(1;7)(q10;p10)[9]", "46,XY,+1,der(1;7)(q10;p10)[9]"])
def test_der_1_7_gains_1q_and_loses_7q(text: str) -> None:
    features = parse(text).features
    assert {name for name in ("del7q", "gain1q", "del1p") if features[name]} == {"del7q", "gain1q"}

"""Genes by their HGNC ids: approved symbols, and the names that laboratories still write.

An id never changes; a symbol does (MLL is KMT2A since 2013). Ids are transcribed from ValueSet
mii-vs-mtb-panel-cgp of the German MII's molecular tumour board module (v2027.0.0-ballot.1), the rest from HGNC's
own references in Ensembl and RefSeq. Earlier names are HGNC's previous symbols; a name that meant two genes is
listed only where haematology means one of them (MLL2: KMT2D, which HGNC lists it for).
"""

__all__ = ["HGNC", "SYMBOL", "hgnc"]

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_ID: Final = re.compile(r"HGNC:([1-9][0-9]{0,4})", re.IGNORECASE)

# Approved symbol, id.
_APPROVED: Final = """
    ABL1 76        ABRAXAS1 25829 ARID1A 11110   ARID1B 18040   ARID2 18037    ASXL1 18318    ASXL2 23805
    ATM 795        ATRX 886       BAP1 950       BCL10 989      BCOR 20893     BCORL1 25657   BIRC3 591
    BRAF 1097      BRCA1 1100     BRCA2 1101     BRCC3 24185    CALR 1455      CBL 1541       CBLB 1542
    CCND1 1582     CCND2 1583     CCND3 1585     CDK4 1773      CDKN1A 1784    CDKN1B 1785    CDKN2A 1787
    CDKN2B 1788    CDKN2C 1789    CEBPA 1833     CHEK2 16627    CKS1B 19083    CRBN 30185     CREBBP 2348
    CSF1R 2433     CSF3R 2439     CTCF 13723     CUX1 2557      CXCR4 2561     CYLD 2584      DDX41 18674
    DICER1 17098   DIS3 20604     DNMT3A 2978    DNMT3B 2979    EED 3188       EGFR 3236      EP300 3373
    ETNK1 24649    ETV6 3495      EZH2 3527      FBXW7 16712    FGFR3 3690     FLT3 3765      GATA1 4170
    GATA2 4171     GNAS 4392      GNB1 4396      H3-3A 4764     HRAS 5173      IDH1 5382      IDH2 5383
    IKZF1 13176    IKZF3 13178    IRF1 6116      IRF4 6119      IRF8 5358      JAK1 6190      JAK2 6192
    JAK3 6193      KDM5C 11114    KDM6A 12637    KIT 6342       KMT2A 7132     KMT2B 15840    KMT2C 13726
    KMT2D 7133     KMT2E 18541    KRAS 6407      MAF 6776       MAFB 6408      MAX 6913       MECOM 3498
    MGA 14010      MPL 7217       MYC 7553       MYD88 7562     NF1 7765       NF2 7773       NFKB2 7795
    NFKBIA 7797    NIPBL 28862    NOTCH1 7881    NOTCH2 7882    NPM1 7910      NRAS 7989      NSD1 14234
    NSD2 12766     NSD3 12767     NT5C2 8022     PAX5 8619      PHF6 18145     PIK3CA 8975    POT1 17284
    PPM1D 9277     PRDM1 9346     PRPF8 17340    PTEN 9588      PTPN11 9644    RAC1 9801      RAD21 9811
    RAD50 9816     RAF1 9829      RB1 9884       RIT1 10023     RUNX1 10471    SAMHD1 15925   SETBP1 15573
    SETD2 18420    SF3B1 10768    SH2B3 29605    SMC1A 11111    SMC3 2468      SMG1 30045     SRSF2 10783
    STAG1 11354    STAG2 11355    STAT3 11364    STAT5A 11366   STAT5B 11367   SUZ12 17101    TENT5C 24712
    TERT 11730     TET1 29484     TET2 25941     TP53 11998     TRAF2 12032    TRAF3 12033    U2AF1 12453
    U2AF2 23156    UBA1 12469     WT1 12796      XBP1 12801     XPO1 12825     ZBTB7A 18078   ZMYM3 13054
    ZRSR2 23019
"""

# Earlier or common name, approved symbol.
_EARLIER: Final = """
    AML1 RUNX1     CBFA2 RUNX1    CBP CREBBP     CD117 KIT      CD135 FLT3
    EVI1 MECOM     FAM175A ABRAXAS1              FAM46C TENT5C  GCSFR CSF3R    H3F3A H3-3A
    JARID1C KDM5C  LNK SH2B3      MLL KMT2A      MLL1 KMT2A     MLL2 KMT2D     MLL3 KMT2C     MLL5 KMT2E
    MMSET NSD2     P300 EP300     P53 TP53       PRAD1 CCND1    SC35 SRSF2     SFRS2 SRSF2
    SHP2 PTPN11    SMCX KDM5C     TEL ETV6       U2AF35 U2AF1   U2AF65 U2AF2   UTX KDM6A      WHSC1 NSD2
    WHSC1L1 NSD3   ZNFN1A1 IKZF1
"""


def _pairs(text: str) -> list[tuple[str, str]]:
    words = text.split()
    return list(zip(words[::2], words[1::2], strict=True))


_IDS: Final = {symbol: int(number) for symbol, number in _pairs(_APPROVED)}

SYMBOL: Final[Mapping[int, str]] = MappingProxyType({number: symbol for symbol, number in _IDS.items()})
"""HGNC id -> approved symbol."""

HGNC: Final[Mapping[str, int]] = MappingProxyType({**{old: _IDS[new] for old, new in _pairs(_EARLIER)}, **_IDS})
"""Symbol, approved or earlier, in capitals -> HGNC id."""


def hgnc(text: str) -> int | None:
    """The HGNC id of a gene, from its id or one of its symbols; None if neither.

    Bare digits are no id: they may as well be of NCBI Gene. Any well-formed HGNC id is accepted, in `SYMBOL` or not.

    >>> hgnc("HGNC:11998"), hgnc("TP53"), hgnc("tp53 "), hgnc("MLL"), hgnc("11998"), hgnc("1-Mar")
    (11998, 11998, 11998, 7132, None, None)
    """
    name = text.strip()
    match = _ID.fullmatch(name)
    return int(match[1]) if match else HGNC.get(name.upper())

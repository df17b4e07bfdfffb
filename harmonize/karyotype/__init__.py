"""A karyotype in ISCN to cytogenetic features; see docs/reference/karyotype.md."""

from harmonize.karyotype.reading import CRYPTIC, FEATURES, Karyotype, KaryotypeError, parse

__all__ = ["CRYPTIC", "FEATURES", "Karyotype", "KaryotypeError", "parse"]

"""The mapping file: what a hospital's data manager writes to say how its sources are to be read (TOML)."""

from harmonize.mapping.loading import load, loads
from harmonize.mapping.model import (
    Bulk,
    Bundles,
    Column,
    Csv,
    CsvPatient,
    Dialect,
    Features,
    FhirPatient,
    Long,
    Mapping,
    Ndjson,
    Redcap,
    Server,
    Source,
    Variants,
)
from harmonize.mapping.names import nearest
from harmonize.mapping.proposal import propose

__all__ = [
    "Bulk",
    "Bundles",
    "Column",
    "Csv",
    "CsvPatient",
    "Dialect",
    "Features",
    "FhirPatient",
    "Long",
    "Mapping",
    "Ndjson",
    "Redcap",
    "Server",
    "Source",
    "Variants",
    "load",
    "loads",
    "nearest",
    "propose",
]

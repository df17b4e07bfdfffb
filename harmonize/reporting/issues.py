"""Every kind of finding: its severity, its FHIR issue type, what happened to the data, and the way out.

New codes go to the end of the fitting block of `issues_of_records` or `issues_of_values`; then `make docs`.
"""

__all__ = ["CODES", "Check", "Kind"]

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from harmonize.kinds import Check, Kind
from harmonize.reporting.issues_of_records import RECORDS
from harmonize.reporting.issues_of_values import VALUES

CODES: Final[Mapping[str, Kind]] = MappingProxyType({**RECORDS, **VALUES})

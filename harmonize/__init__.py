"""Harmonisation: FHIR and CSV sources of a hospital become one canonical table under one hashed profile.

`profile.load` → `mapping.load` → `sources.read` → `table.build` → `(Table, Quality)`; see
docs/reference/harmonisation.md. Pure: reads the paths and streams it is given, uses no network, clock,
randomness or logging.
"""

from harmonize.errors import HarmonizeError, NotReady, ProfileMismatch

__all__ = ["HarmonizeError", "NotReady", "ProfileMismatch"]

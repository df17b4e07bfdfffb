"""What a site and a coordinator keep: durable before it is acted on, erased when it is said to be."""

from nodes.store.coordinator import CoordinatorStore
from nodes.store.rows import (
    CoordinatorRun,
    LedgerRow,
    SiteRun,
    StoredSetup,
    StoredSum,
    StoredUpload,
    SumEntry,
    WitnessedRow,
)
from nodes.store.site import SiteStore

__all__ = [
    "CoordinatorRun",
    "CoordinatorStore",
    "LedgerRow",
    "SiteRun",
    "SiteStore",
    "StoredSetup",
    "StoredSum",
    "StoredUpload",
    "SumEntry",
    "WitnessedRow",
]

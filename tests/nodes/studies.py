"""A small valid study and its identities."""

from __future__ import annotations

import base64
import datetime as dt
import os

from harmonize.profile import load
from models.presets import PRESETS
from nodes.drafting import draft
from nodes.protocol import Terms
from nodes.study import SignedStudy, Study, sign
from secagg.keys import Identity

NOW = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)
NAMES = ("alder", "birch", "cedar", "dogwood", "elm")


def make(terms: Terms | None = None) -> tuple[Study, dict[str, Identity]]:
    identities = {name: Identity.generate(os.urandom) for name in NAMES}
    study = draft(
        "test",
        "a test",
        profile=load("aml_core"),
        preset=PRESETS["aml-small"],
        sites=[(name, identity.public, "100-249") for name, identity in identities.items()],
        terms=terms or Terms(),
        seed=b"seed",
        not_after="2027-01-01T00:00:00+00:00",
    )
    return study, identities


def signed_by_all(study: Study, identities: dict[str, Identity]) -> SignedStudy:
    signed = SignedStudy(study)
    for name, identity in identities.items():
        signed = sign(signed, name, identity)
    return signed


def key(identity: Identity) -> str:
    return base64.b64encode(identity.public).decode()

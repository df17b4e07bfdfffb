"""The report on a run without noise: what the masks hid, and that nothing bounds what the sums say.

There is no verdict and no certificate of such a run, because there is no claim that could be tested.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from audits.page import number, page
from audits.report_data import LocalFindings, ReleasedScore, SignatureLine, Study

__all__ = ["ExactSums", "UnprotectedReport", "render_html", "to_json"]

HEADLINE = "Not differentially private"

MEANING = (
    "The coordinator added uploads that it could not read, and learned their sums and nothing else.",
    "A sum is exact. Nothing bounds what it says about a patient, and no ε can be stated for this run, now or later.",
    "Whoever knows the data of all other patients in a sum, or of all other hospitals, can compute the rest.",
    (
        "Two exact sums whose patients differ by one show that patient. So the roster was fixed, a missing hospital "
        "would have ended the study, and no other run of this kind is taken part in."
    ),
    "It counts on every hospital: one that colludes with the coordinator sees the sum of the others.",
)


@dataclass(frozen=True)
class ExactSums:
    """One kind of sum.

    Attributes:
        stage: kind of query.
        account: whose patients it read.
        uploads: uploads of this hospital.
        completed: sums that were completed.
        leaves: what became known and to whom.
    """

    stage: str
    account: str
    uploads: int
    completed: int
    leaves: str


@dataclass(frozen=True)
class UnprotectedReport:
    """A whole report.

    Attributes:
        site: the hospital it is for.
        generated: ISO date.
        software: name and version.
        study: the study.
        sums: what left.
        scores: released evaluation, without noise.
        local: the site's own attack results, or None if they were not made.
        entries: entries of the ledger; the run is one of them.
        head: hash of the last one.
        signatures: sign-off block.
        headline: what this is.
    """

    site: str
    generated: str
    software: str
    study: Study
    sums: tuple[ExactSums, ...]
    scores: tuple[ReleasedScore, ...]
    local: LocalFindings | None
    entries: int
    head: str
    signatures: tuple[SignatureLine, ...] = (SignatureLine("Data protection officer"),)
    headline: str = HEADLINE


def render_html(data: UnprotectedReport) -> str:
    """Lay the report out as one HTML page; the same data give the same bytes."""
    return page("unprotected.html.j2", filters={"num": number}, d=data, meaning=MEANING)


def to_json(data: UnprotectedReport) -> bytes:
    """Return the data of the report as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(data), indent=2)

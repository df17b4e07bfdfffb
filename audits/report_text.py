"""The fixed sentences of the report for data protection officers, apart from numbers and layout.

Written for a reader who signs and is not a statistician. The report never says that a model "is anonymous" or
that it complies with a law: it states what was promised, what was measured and what was not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

from audits.report_data import ReportData

__all__ = ["OUTSIDE", "TrustRow", "glossary", "handling", "trust"]


def handling(data: ReportData) -> str:
    """How the page and its JSON may be handled."""
    if data.local is None:
        return (
            "Without local results: nothing in this report comes from this site's patients but through the noisy sums."
        )
    return "For this site only. Section 8 b describes results on this site's own patients and must not be passed on."


@dataclass(frozen=True)
class TrustRow:
    """One party: what it could do, what it would learn, and what holds it back."""

    party: str
    may: str
    learns: str


def trust(data: ReportData) -> tuple[TrustRow, ...]:
    """Who is trusted with what, for this study's numbers."""
    c, n, least = data.study.collusion, len(data.study.sites), data.study.minimum_roster
    colluders = "1 hospital" if c == 1 else f"{c} hospitals"
    return (
        TrustRow(
            "The coordinator, dishonest",
            "drop, delay and reorder messages, tell every hospital something else; it admits nobody",
            (f"sums over at least {least} hospitals with the noise already inside; never a single hospital's vector"),
        ),
        TrustRow(
            f"The coordinator and {colluders}, together",
            "pool keys, noise and uploads; steer the sum they contribute to",
            ("noisy sums of the other hospitals, at the main ε, which counts the noise of honest hospitals only"),
        ),
        TrustRow(
            f"All other {n - 1} hospitals and the coordinator",
            "subtract everything that is theirs",
            "this hospital's sum under its own noise alone: the third ε of section 2",
        ),
        TrustRow(
            "Whoever receives the model",
            "query it as often as they like, inspect its weights, combine it with anything they know",
            "what ε and δ allow, and what section 8 measured",
        ),
        TrustRow(
            "This hospital's own administrators",
            "read the records, as before the study",
            "everything; the guarantee is about what leaves the hospital",
        ),
    )


OUTSIDE = (
    "What a person typed in when the hospital registered: size band, data quality grade, features present.",
    "That the hospital takes part, that its node is online, and the day it joined or left a round.",
    "A refusal to start or to sign: it is a person's decision, made after seeing local results.",
    "The model's settings. They were chosen on a public cohort, not on patients of the consortium.",
    "Patients treated at more than one hospital: their losses add up, and no single ledger can see it.",
    (
        "What the model teaches about people in general. If it shows that age matters, it says something "
        "about every patient's age group, whether or not he was in the study."
    ),
    "A compromised hospital computer, or a person who reads the records there.",
)

_RENYI = (
    "Order and R (Rényi differential privacy)",
    (
        "Another way to add up releases, needed for sampled patients and for narrow lanes. R of one order, fixed when "
        "the budget is granted, adds up over studies; ε follows from it and δ."
    ),
)

_GLOSSARY = (
    (
        "ε (epsilon)",
        (
            "Bound on what the releases can add to anybody's knowledge about whether one patient was in the "
            "data: the odds change by at most a factor e^ε (apart from δ). Smaller is better; 0 would mean "
            "no influence at all."
        ),
    ),
    ("δ (delta)", "Small probability with which the bound of ε may be exceeded."),
    (
        "μ (mu)",
        (
            "The same guarantee as one number for Gaussian noise. Unlike ε it does not depend on δ, and μ² "
            "simply adds up over studies; the accounts are therefore kept in μ²."
        ),
    ),
    (
        "Unit of privacy",
        "What is added or removed in the comparison: here one whole patient, not one visit or value.",
    ),
    (
        "Account",
        (
            "What may still be learned about a patient of this hospital. Training patients and hold-out "
            "patients have one account each; a patient is in exactly one of the two, for ever."
        ),
    ),
    (
        "Upload",
        "One masked, noisy vector that left the hospital. Each is charged, also if its round was broken off.",
    ),
    (
        "Hold-out",
        (
            "One patient in five, chosen by a keyed hash of the pseudonym and never trained on. The model is "
            "tested on them."
        ),
    ),
    (
        "Noise multiplier z",
        (
            "Standard deviation of the honest hospitals' noise, divided by the most one patient can add. One "
            "upload costs μ = 1/z."
        ),
    ),
    (
        "Membership attack",
        (
            "An attempt to tell from the model whether a given patient was in the training data. Its AUC is "
            "0.5 when it is no better than a coin."
        ),
    ),
    (
        "Upper bound (95 % confidence)",
        ("A value that the true one exceeds in at most one audit of twenty. Verdicts read bounds, never estimates."),
    ),
    (
        "Inconclusive",
        "The check could not be decided, usually because the cohort is too small. It counts as not passed.",
    ),
)


def glossary(data: ReportData) -> tuple[tuple[str, str], ...]:
    """The words that the report uses."""
    renyi = any(claim.mu is None for claim in data.evidence.claims)
    return (*_GLOSSARY, _RENYI) if renyi else _GLOSSARY

"""The generated page about the findings of the quality report."""

from __future__ import annotations

from typing import Final

from harmonize.reporting.issues import CODES, Check
from harmonize.reporting.quality import ISSUE_SYSTEM

__all__ = ["page"]

_QUESTIONS: Final = {
    Check.CONFORMANCE: "is it written in the agreed form?",
    Check.COMPLETENESS: "is it there?",
    Check.PLAUSIBILITY: "can it be true?",
    Check.UNIQUENESS: "is it there once?",
    Check.LINKAGE: "does it belong to a known patient?",
}


def page(generated: str) -> str:
    """The page; `generated` is the line that says so."""
    preface = (
        "What the quality report of `haemfed harmonize run` may say about a source. A code keeps its meaning in every\n"
        "later version; the FHIR OperationOutcome beside the report uses the same codes, in the code system\n"
        f"`{ISSUE_SYSTEM}`.\n\n"
        "- error: something of the source is not used\n"
        "- warning: used, but somebody should look\n"
        "- information: nothing to do\n"
    )
    return f"# Findings of the quality report\n\n{generated}{preface}" + "".join(map(_section, Check))


def _section(check: Check) -> str:
    rows = [
        f"| `{code}` | {kind.severity} | {kind.meaning} | {kind.remedy} |\n"
        for code, kind in sorted(CODES.items())
        if kind.check is check
    ]
    head = "| Code | Severity | What was found, what became of it | Way out |\n|---|---|---|---|\n"
    return f"\n## {check.capitalize()}: {_QUESTIONS[check]}\n\n{head}{''.join(rows)}"

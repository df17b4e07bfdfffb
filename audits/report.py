"""The report for a site's data protection officer: one self-contained HTML page, and the same data as JSON."""

from __future__ import annotations

import math

import msgspec

from audits import report_text
from audits.errors import MisuseError
from audits.membership import LocalEvidence
from audits.page import number, page, scientific
from audits.report_data import LocalFindings, ReportData, meaning

__all__ = ["local_findings", "render_html", "to_json"]


def _percent(share: float) -> str:
    if share > 0.995:
        return "> 99 %"
    return f"{100.0 * share:.1f} %" if share < 0.0995 and round(100.0 * share, 1) % 1 else f"{100.0 * share:.0f} %"


def _epsilon(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "not bounded"
    return f"{value:.2f}" if value < 100.0 else f"{value:.0f}"


def _p_value(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def _clip(value: float, low: float, high: float) -> float:
    return min(high, max(low, value))


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def local_findings(evidence: LocalEvidence) -> LocalFindings:
    """Put local evidence into words for section 8 b of this site's own report; pseudonyms are left out."""
    lines = []
    for result in evidence.results:
        auc = result.auc
        lines.append((f"{result.name}: AUC", f"{auc.estimate:.3f} ({auc.low:.3f} to {auc.high:.3f})"))
        for point in result.points:
            text = (
                f"{_percent(point.tpr.estimate)} ({_percent(point.tpr.low)} to {_percent(point.tpr.high)}), "
                f"at {_percent(point.fpr.estimate)} achieved"
                if point.resolvable
                else point.note
            )
            lines.append((f"{result.name}: hits at {_percent(point.asked)} false alarms", text))
    blind = evidence.blind
    lines.append(
        (
            "Attacker without the model: AUC",
            f"{blind.estimate:.3f} ({blind.low:.3f} to {blind.high:.3f}); should be 0.5",
        )
    )
    return LocalFindings(
        evidence.members,
        evidence.nonmembers,
        evidence.shadows,
        tuple(lines),
        len(evidence.worst),
        evidence.notes,
    )


def render_html(data: ReportData) -> str:
    """Lay a report out as one HTML page; the same data give the same bytes.

    Raises:
        MisuseError: the data claim nothing about the training account, or lack the three views of it.
    """
    claims = [claim for claim in data.evidence.claims if claim.account == "training"]
    if not claims or len(data.training_views) != 3:
        raise MisuseError("a report needs the claim about training patients and the three views of it")
    claim = claims[0]
    ceiling = claim.ceiling()
    limits = {reason.rule: reason.limit for reason in data.verdict.reasons}
    return page(
        "report.html.j2",
        filters={
            "pct": _percent,
            "eps": _epsilon,
            "num": number,
            "sci": scientific,
            "pvalue": _p_value,
            "px": lambda value: f"{value:.1f}",
            "clip": _clip,
            "lower_first": _lower_first,
            "ceiling": ceiling.tpr,
        },
        d=data,
        claim=claim,
        handling=report_text.handling(data),
        meaning=meaning(data.training_views),
        gaussian=claim.mu is not None,
        trust=report_text.trust(data),
        outside=report_text.OUTSIDE,
        glossary=report_text.glossary(data),
        ceiling_auc=ceiling.auc(),
        ceiling_curve=[(i / 40, ceiling.tpr(i / 40)) for i in range(41)],
        limits={"auc": limits.get("auc_upper_max")},
    )


def to_json(data: ReportData) -> bytes:
    """Return the data of the report as indented JSON, with the handling note first.

    The file is for this site like the page is: it contains the summary of section 8 b.
    """
    body = {"handling": report_text.handling(data), **msgspec.to_builtins(data)}
    return msgspec.json.format(msgspec.json.encode(body), indent=2)

"""The data quality report as a page: the local one for the hospital's data manager, and the one to hand over.

Names of columns and files come from outside: everything is escaped, made printable, and never a formula.
"""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from audits.page import page
from harmonize.reporting.disclosure import HANDLING, K, Shareable
from harmonize.reporting.issues import CODES, Check
from harmonize.reporting.quality import Finding, Quality, VariableQuality
from harmonize.reporting.tally import shown

__all__ = ["local_html", "shareable_html"]

_KINDS: Mapping[str, str] = {
    "derived": "Clinical",
    "code": "Clinical",
    "lab": "Laboratory",
    "cytogenetic": "Cytogenetics",
    "variant": "Genes",
    "features": "Features of images",
}
_WIDTH = 150.0  # of a bar, in SVG units


def local_html(quality: Quality, title: str) -> str:
    """The page for the hospital itself: exact counts, places in its files, five numbers; the same data, the same bytes.

    Args:
        quality: the report.
        title: of the profile.
    """
    return _render(
        "quality.html.j2",
        q=quality,
        title=title,
        groups=_groups(quality.variables),
        steps=_steps(quality),
        checks=_checks(quality.findings),
        urgent=_urgent(quality.findings),
    )


def shareable_html(report: Shareable, title: str) -> str:
    """The page for handing over: rounded, small counts hidden, no word of the source.

    Args:
        report: from `harmonize.reporting.disclosure.shareable`.
        title: of the profile.
    """
    groups: dict[str, list[object]] = {}
    for variable in report.variables:
        groups.setdefault(_KINDS.get(variable.kind, "Other"), []).append(variable)
    return _render("quality_shareable.html.j2", q=report, title=title, groups=groups, handling=HANDLING, k=K)


def _groups(variables: tuple[VariableQuality, ...]) -> dict[str, list[VariableQuality]]:
    groups: dict[str, list[VariableQuality]] = {}
    for variable in variables:
        groups.setdefault(_KINDS.get(variable.kind, "Variables"), []).append(variable)
    return groups


def _steps(quality: Quality) -> list[tuple[str, int, int]]:
    """(what, patients, patients left afterwards), from the source to the table."""
    left = quality.flow.seen
    steps = [("Patients in the source", left, left)]
    for code, count in quality.flow.left_out.items():
        left -= count
        steps.append((code, count, left))
    steps.append(("Rows of the table", quality.flow.usable, quality.flow.usable))
    return steps


def _urgent(findings: tuple[Finding, ...]) -> list[Finding]:
    """The five errors to which most was lost."""
    errors = [finding for finding in findings if finding.severity in {"fatal", "error"}]
    return sorted(errors, key=lambda finding: -finding.count)[:5]


def _places(places: tuple[str, ...]) -> list[str]:
    """Each file once: "a.csv:2, 3"."""
    lines: dict[str, list[str]] = {}
    for place in places:
        file, colon, line = place.rpartition(":")
        lines.setdefault(file if colon else line, []).extend([line] if colon else [])
    return [f"{shown(file)}:{', '.join(numbers)}" if numbers else shown(file) for file, numbers in lines.items()]


def _upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]


def _checks(findings: tuple[Finding, ...]) -> list[tuple[Check, list[Finding]]]:
    return [(check, found) for check in Check if (found := [each for each in findings if each.check is check])]


def _bar(parts: list[tuple[str, int]], total: int) -> Markup:
    """Stacked bar as SVG; `parts` are (class of the style sheet, patients)."""
    spans, start = [], 0.0
    for kind, count in parts:
        width = _WIDTH * count / total if total else 0.0
        if width:
            spans.append(
                Markup('<rect class="{}" x="{}" y="0" width="{}" height="12"></rect>').format(
                    kind, f"{start:.1f}", f"{width:.1f}"
                )
            )
        start += width
    return Markup(
        '<svg class="bar" viewBox="0 0 {0} 12" width="{0}" height="12" aria-hidden="true">'
        '<rect class="none" x="0" y="0" width="{0}" height="12"></rect>{1}</svg>'
    ).format(f"{_WIDTH:.0f}", Markup("").join(spans))


def _states_bar(variable: VariableQuality) -> Markup:
    states = variable.states
    limits = states.get("below-limit", 0) + states.get("above-limit", 0)
    return _bar(
        [
            ("value", states.get("value", 0) + limits),
            ("negative", states.get("tested-negative", 0)),
            ("invalid", states.get("invalid", 0)),
        ],
        variable.rows,
    )


def _number(value: float) -> str:
    """Three significant digits, whole numbers whole."""
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text.replace("-", "\N{MINUS SIGN}")


def _percent(part: float, total: float) -> str:
    """A share that rounds neither to nothing nor to all."""
    share = 100 * part / total if total else 0.0
    if 0 < share < 1:
        return "< 1 %"
    return "> 99 %" if 99 < share < 100 else f"{share:.0f} %"


def _render(template: str, **values: object) -> str:
    return page(
        template,
        filters={
            "shown": shown,
            "num": _number,
            "lead": lambda text: text.split(";")[0],
            "upper_first": _upper_first,
            "places": _places,
        },
        sheets=("report.css", "quality.css"),
        bar=_bar,
        states_bar=_states_bar,
        percent=_percent,
        kinds=CODES,
        **values,
    )

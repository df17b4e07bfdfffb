import html
import json
import re
from html.parser import HTMLParser

from fhir.resources.R4B.operationoutcome import OperationOutcome

from harmonize.events import Issue, Pointer
from harmonize.issues import CODES
from harmonize.quality import Flow, Quality, Tally, VariableQuality
from tests.harmonize.patients import PROFILE, REDCAP, read_csv
from tests.harmonize.test_csv_source import GOOD, HEADER

HOSTILE = "<script>alert(1)</script>"


def report(*issues: Issue) -> Quality:
    tally = Tally()
    for issue in issues:
        tally.add(issue)
    variables = (
        VariableQuality("wbc", "White blood cells", {"value": 3, "not-tested": 2, "below-limit": 1}, {"/uL": 4}),
    )
    return Quality.of(PROFILE, Flow(7, {"index-diagnosis-missing": 1}, 6, 4), variables, tally)


def test_issues_are_counted_not_kept() -> None:
    quality = report(*(Issue("range-soft", Pointer("a.csv", line, "WBC"), "wbc") for line in range(2, 1002)))

    (finding,) = quality.findings
    assert finding.count == 1000
    assert finding.places == tuple(f"a.csv:{line}" for line in range(2, 12))
    assert quality.count("range-soft") == quality.count("range-soft", "wbc") == 1000
    assert quality.count("range-soft", "age") == 0
    assert quality.variables[0].usable == 4


def test_the_page_escapes_what_comes_from_a_file() -> None:
    page = report(Issue("unit-unknown", Pointer(HOSTILE, 3, HOSTILE), HOSTILE)).render_html()

    assert HOSTILE not in page
    assert "&lt;script&gt;" in page


def test_the_page_is_self_contained_and_well_formed() -> None:
    page = report(*(Issue(code, Pointer("a.csv", 1)) for code in CODES)).render_html()

    assert not re.search(r"<script|<img|<link|https?://|@import|url\(", page)
    assert "default-src 'none'" in page
    for kind in CODES.values():
        assert html.escape(kind.remedy).replace("&#x27;", "&#39;") in page
    stack: list[str] = []

    class Check(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in {"meta", "br"}:
                stack.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert stack.pop() == tag

    Check().feed(page)
    assert stack == []


def test_the_outcome_is_fhir() -> None:
    for quality in (report(), report(*(Issue(code, Pointer("a.csv", 1, "x"), "wbc") for code in CODES))):
        outcome = OperationOutcome.model_validate(json.loads(quality.operation_outcome_json()))
        assert len(outcome.issue) == max(1, len(quality.findings))


def test_worst_first() -> None:
    quality = report(*(Issue(code, Pointer("a.csv", 1)) for code in sorted(CODES)))

    ranks = [["fatal", "error", "warning", "information"].index(finding.severity) for finding in quality.findings]
    assert ranks == sorted(ranks)


def test_a_report_is_the_same_for_the_same_source() -> None:
    rows = "\n".join([HEADER, GOOD, GOOD.replace("1,", "2,", 1).replace("13.3", "x"), "3,,,,,,,,,"]).encode()

    assert read_csv(rows, REDCAP)[1].render_html() == read_csv(rows, REDCAP)[1].render_html()


def test_every_finding_says_what_became_of_the_data() -> None:
    # https://hl7.org/fhir/R4/codesystem-issue-type.html
    types = {
        "structure", "required", "value", "invariant", "not-found", "duplicate", "multiple-matches",
        "business-rule", "conflict", "code-invalid", "extension", "informational",
    }  # fmt: skip
    for code, kind in CODES.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
        assert kind.type in types
        assert kind.meaning
        assert kind.remedy

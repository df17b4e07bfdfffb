import base64
import hashlib
import html.parser
import json
import re
from dataclasses import replace
from typing import Any

import pytest

from audits import report
from audits.errors import MisuseError
from audits.report_data import AccountBudget, Coalition, epsilon_views, meaning
from tests.audits.sample import evidence
from tests.audits.sample import report as sample
from tests.sweeps import thinned

DATA = sample()
PAGE = report.render_html(DATA)
CONSORTIUM = report.render_html(sample(name="consortium"))

VOID = {"meta", "br", "rect", "circle", "line", "path", "polyline", "polygon"}


class Outline(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: Any, attrs: Any) -> Any:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: Any, attrs: Any) -> Any:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: Any) -> Any:
        assert self.open.pop() == tag


def outline(page: str = PAGE) -> Outline:
    parser = Outline()
    parser.feed(page)
    assert parser.open == []
    return parser


def test_the_page_needs_nothing_from_outside_and_runs_nothing() -> None:
    tags = outline().tags
    assert not {tag for tag, _ in tags} & {"script", "link", "img", "iframe", "object", "embed", "form", "a"}
    for _, attributes in tags:
        assert not {name for name in attributes if name.startswith("on") or name in {"src", "href", "style"}}
    assert "url(http" not in PAGE
    assert "@import" not in PAGE


def test_the_content_policy_allows_exactly_the_style_in_the_page() -> None:
    style = re.search(r"<style>(.*?)</style>", PAGE, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policies = [a["content"] for t, a in outline().tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"]


def test_names_are_text_never_markup() -> None:
    evil = '<script>alert("1")</script>'
    page = report.render_html(replace(DATA, site=evil, study=replace(DATA.study, name=evil, recipients=evil)))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 4
    outline(page)


def test_what_a_data_protection_officer_looks_for_is_there() -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", PAGE))
    for sentence in (
        "PASS",
        "ε = 1.80", "ε = 1.99", "ε = 4.98",  # outsiders, coordinator + c, everybody else
        "2.25 at δ",
        "88 %", "45 %", "60 %",  # ε = 2 in plain words: beliefs and coin flips
        "one patient, with all visits and values",
        "831 numbers of the harmonised table, and the outcome",
        "clinical 3 age, sex, wbc",
        "mut_gene0, mut_gene1,",
        "slide 768 slide[0…767]",
        "0.652 0.571 to 0.733",
        "add or remove one patient",
        "60 of 60 training steps were completed with 62 uploads",
        "Stays at this site",
        "10; the list itself is a separate file at this site",
        "withheld by the site",
        "not resolvable with n = 11",
        "not resolved",
        "What this verdict does not cover",
    ):  # fmt: skip
        assert sentence in text, sentence


@pytest.mark.parametrize("word", ["anonymous", "anonymised", "gdpr compliant", "gdpr-compliant", "safe to release"])
def test_it_never_promises_what_it_cannot(word: str) -> None:
    for page in (PAGE, CONSORTIUM, report.to_json(DATA).decode()):
        assert word not in page.lower()


def test_a_report_without_local_results_says_so() -> None:
    page = report.render_html(replace(DATA, local=None))
    assert "was not run" in page
    assert "For this site only" not in page
    assert "LiRA, log|martingale" not in page


@pytest.mark.parametrize(
    "changes", thinned([{"attack": None}, {"mechanism": None}, {"sensitivity": None}, {"positive_control": None}], 2)
)
def test_missing_evidence_still_gives_a_page(changes: Any) -> None:
    page = report.render_html(sample(evidence(**changes)))
    assert "INCONCLUSIVE" in page
    outline(page)


def test_the_same_data_give_the_same_bytes() -> None:
    assert report.render_html(DATA) == PAGE


def test_the_json_holds_the_same_data() -> None:
    body = json.loads(report.to_json(DATA))
    assert body["handling"].startswith("For this site only")
    assert body["schema"] == "haemfed/dpo-report/v2"
    assert body["training_views"][1]["epsilon_5"] == DATA.training_views[1].epsilon_5
    assert body["evidence"]["attack"]["auc"]["high"] == DATA.evidence.attack.auc.high
    assert body["verdict"]["outcome"] == "PASS"
    assert body["study"]["columns"][0] == {"modality": "clinical", "count": 3, "names": ["age", "sex", "wbc"]}


def test_views_follow_the_shares_of_the_noise() -> None:
    outside, claimed, everyone = epsilon_views(0.5, roster=9, collusion=2)
    assert outside.mu == pytest.approx(0.5 * (7 / 9) ** 0.5)
    assert (claimed.mu, claimed.main) == (0.5, True)
    assert everyone.mu == pytest.approx(0.5 * 7**0.5)
    assert outside.epsilon_5 < claimed.epsilon_5 < claimed.epsilon_6 < everyone.epsilon_5
    assert [row.epsilon for row in meaning((outside,))] == [outside.epsilon_5]
    with pytest.raises(MisuseError):
        epsilon_views(0.5, roster=2, collusion=2)


def test_views_when_some_of_the_roster_may_be_missing_from_the_sum() -> None:
    outside, claimed, everyone = epsilon_views(0.5, roster=9, collusion=2, honest=5)
    assert outside.mu == pytest.approx(0.5 * (5 / 7) ** 0.5)  # seven survivors at least
    assert (claimed.mu, claimed.main) == (0.5, True)
    assert everyone.mu == pytest.approx(0.5 * 5**0.5)
    for impossible in (0, 8):
        with pytest.raises(MisuseError):
            epsilon_views(0.5, roster=9, collusion=2, honest=impossible)


def test_every_coalition_has_a_line() -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", PAGE))
    for line in (
        "The coordinator alone 120 % 1.80 1.74",
        "The coordinator and 1 hospital, as claimed 100 % 1.99",
        "The coordinator and 3 hospitals 60 % 2.65",
        "The coordinator and 5 hospitals 20 % 4.98",
    ):
        assert line in text, line
    ranged = report.render_html(replace(DATA, coalitions=(Coalition(2, 4, 0.25, 5.0, None),)))
    assert "The coordinator and 2 to 4 hospitals</td>" in ranged
    assert "not bounded" in ranged
    local = report.render_html(replace(DATA, coalitions=()))
    assert "the claim holds however many others work together" in local


def test_budgets() -> None:
    account = AccountBudget("training", 1e-5, granted=1.0, spent=0.7, reserved=0.5, this_study=0.2)
    assert account.remaining == 0.0
    with pytest.raises(MisuseError):
        AccountBudget("training", 1e-5, granted=-1.0, spent=0.0, reserved=0.0, this_study=0.0)
    with pytest.raises(MisuseError):
        report.render_html(replace(DATA, training_views=()))


def contrast(first: str, second: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(first), light(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_can_be_read() -> None:
    """WCAG 2.1 AA: 4.5 : 1 for every colour of text on every ground it stands on."""
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", PAGE))
    grounds = [
        colours["paper"],
        colours["wash"],
        colours["blue-soft"],
        "#f1f8f3",
        "#fcf2f2",
        "#fdf7ec",
        "#faf7fd",
    ]
    for name in ("ink", "soft", "blue", "green", "amber", "red", "violet"):
        for ground in grounds:
            assert contrast(colours[name], ground) >= 4.5, (name, ground)

"""The report on a run without noise says so, first and in every rendering."""

from __future__ import annotations

import json

from audits import unprotected
from audits.unprotected import ExactSums, UnprotectedReport
from tests.audits import sample


def page(local: bool = True) -> UnprotectedReport:
    plain = sample.report()
    return UnprotectedReport(
        site=plain.site,
        generated=plain.generated,
        software=plain.software,
        study=plain.study,
        sums=(ExactSums("gradient", "training", 3, 3, "exact sums of clipped gradients; the model"),),
        scores=plain.scores,
        local=plain.local if local else None,
        entries=7,
        head="5e" * 32,
    )


def test_it_says_what_it_is() -> None:
    html = unprotected.render_html(page())

    assert html.index("Not differentially private") < html.index("Purpose")
    assert "protects against the coordinator reading uploads, not against what a sum reveals" in html
    assert "There is no certificate of such a run" in html
    assert "not bounded" in html
    assert "St Bartholomew&#39;s Hospital &lt;North&gt;" in html  # escaped
    assert "<script" not in html
    assert unprotected.render_html(page()) == html


def test_it_lists_the_columns_and_the_intervals_of_the_scores() -> None:
    html = unprotected.render_html(page())

    assert "age, sex, wbc" in html
    assert "mut_gene59" in html
    assert "slide[0…767]" in html
    assert "0.571 to 0.733" in html


def test_local_results_are_optional() -> None:
    assert "was not run" in unprotected.render_html(page(local=False))


def test_the_json_says_it_too() -> None:
    body = json.loads(unprotected.to_json(page()))
    assert body["headline"] == "Not differentially private"
    assert body["sums"][0]["uploads"] == 3

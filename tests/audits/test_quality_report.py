"""The pages of the quality report: escaped, self-contained, deterministic; what is local and what is shared."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audits.quality_report import local_html, shareable_html
from harmonize.profile import load
from harmonize.reporting.disclosure import shareable
from harmonize.reporting.quality import Quality
from tests.audits.quality_sample import FORMULA, HOSTILE, sample
from tests.sweeps import thinned

PROFILE = load("mds")
QUALITY = sample(PROFILE)
CHROMIUM = shutil.which("chromium")


def local(quality: Quality = QUALITY) -> str:
    return local_html(quality, PROFILE.title)


def shared(quality: Quality = QUALITY) -> str:
    return shareable_html(shareable(quality, PROFILE), PROFILE.title)


PAGES = pytest.mark.parametrize("page", [local, shared])


class WellFormed(HTMLParser):
    """Every tag is closed in order; nothing can run, load or submit."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "img", "link", "iframe", "object", "embed", "form", "input", "base", "a"}
        assert not any(name.startswith("on") or name in {"style", "src", "href"} for name, _ in attrs)
        if tag not in {"meta", "br"}:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] not in {"style", "title"}:
            self.text.append(data)


def parsed(page: str) -> WellFormed:
    checker = WellFormed()
    checker.feed(page)
    assert checker.stack == []
    return checker


@PAGES
def test_a_page_is_self_contained_and_well_formed(page: Callable[[], str]) -> None:
    text = page()
    parsed(text)

    assert "default-src 'none'" in html.unescape(text)
    assert not re.search(r"https?://|@import|url\(|javascript:", text)
    assert page() == text


def test_the_local_page_says_so_and_has_everything() -> None:
    page = local()

    assert "For this hospital only" in page
    for variable in QUALITY.variables:
        assert f'<span class="name">{variable.name}</span>' in page
    for finding in QUALITY.findings:
        assert html.escape(finding.remedy[1:]).replace("&#x27;", "&#39;") in page or finding.remedy == "none needed"
    assert "Patienten.csv:2, 3, 4" in page
    assert "371 of 375 karyotypes" in page
    assert "looks as if in g/L" in page
    assert "TP53" in page


def test_five_numbers_are_on_the_local_page_alone() -> None:
    hb = next(variable for variable in QUALITY.variables if variable.name == "hb")
    assert hb.summary is not None
    assert f"<strong>{hb.summary.median:.3g}</strong>" in local()
    assert "(local only)" in local()
    assert "local only" not in shared()
    assert f"{hb.summary.median:.3g}" not in re.sub(r"<style>.*?</style>", "", shared(), flags=re.DOTALL)


@pytest.mark.parametrize(
    "word", thinned([HOSTILE, FORMULA, '"><svg onload=1>', "\x1b[2J", "\u202egnp.exe", "a\x00b", "x" * 5000], 6)
)
def test_hostile_names_are_text(word: str) -> None:
    quality = sample(PROFILE, field=word, file=word)

    for page in (local(quality), shared(quality)):
        text = "".join(parsed(page).text)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", page)
        assert not re.search(r"(?m)^\s*[=@]", text)
        assert "x" * 100 not in page
    assert word not in shared(quality)


@settings(deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_any_name_is_text(field: str, file: str) -> None:
    finding = replace(QUALITY.findings[0], field=field, places=(file, f"{file}:3"))
    variable = replace(QUALITY.variables[0], codes={field: 3})
    parsed(local(replace(QUALITY, findings=(finding,), variables=(variable,), genes=())))


def test_nothing_of_the_source_is_on_the_shared_page() -> None:
    page = shared()

    for word in ("Patienten", "csv", "Leukozyten", "HB (", *map(str, (412, 371, 190))):
        if word != "190":  # a multiple of ten is what 190 to 199 would also show
            assert word not in page
    assert "No program sends this report" in page


def test_every_number_of_the_shared_page_is_rounded_or_public() -> None:
    # Without what is the profile's: titles, digest, units and codes.
    body = shared().split('<h2 id="cohort">')[1].split("<footer>")[0]
    counts = re.findall(r'<td class="n">(\d+)</td>', body) + re.findall(r'<span class="nb">[a-z ]+ (\d+)</span>', body)

    assert len(counts) > 100
    assert all(int(count) % 10 == 0 for count in counts)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium")
@PAGES
def test_a_page_opens_alone_and_fits(page: Callable[[], str], tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    file = tmp_path / "report.html"
    file.write_text(page())
    asked: list[str] = []
    said: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1100, "height": 900})
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("console", lambda message: said.append(message.text))
        tab.goto(file.as_uri())
        colour = tab.evaluate("getComputedStyle(document.querySelector('rect.value')).fill")
        wide = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        tab.set_viewport_size({"width": 500, "height": 900})
        narrow = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        paper = tab.pdf(format="A4")
        browser.close()
    assert asked == [file.as_uri()]
    assert not said  # the content policy blocked nothing of ours
    assert colour == "rgb(31, 78, 121)"
    assert max(wide, narrow) <= 0
    assert paper.startswith(b"%PDF")

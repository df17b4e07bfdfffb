"""The report in a real browser: it asks the network for nothing, runs nothing, and fits screen and paper."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from audits.report import render_html
from tests.audits.sample import report

CHROMIUM = shutil.which("chromium")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium")
def test_report_opens_alone(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    page_file = tmp_path / "report.html"
    page_file.write_text(render_html(report()))
    asked: list[str] = []
    said: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1100, "height": 900})
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.goto(page_file.as_uri())
        assert page.locator("h2#verdict").is_visible()
        wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        page.set_viewport_size({"width": 500, "height": 900})
        narrow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        paper = page.pdf(format="A4")
        browser.close()
    assert asked == [page_file.as_uri()]
    assert not said
    assert wide <= 0
    assert narrow <= 0
    assert paper.startswith(b"%PDF")

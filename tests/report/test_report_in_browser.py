"""The page in a real browser, where there is one."""

from __future__ import annotations

import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_no_errors_and_no_sideways_scrolling(browser, page, width):
    tab = browser.new_page(viewport={"width": width, "height": 900})
    problems: list[str] = []
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.goto(page.as_uri())
    assert problems == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.close()


def test_first_screen_holds_answer_figure_and_claims(browser, page):
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(page.as_uri())
    for selector in (".headline", ".answer svg", ".short-claims tr:last-child"):
        box = tab.locator(selector).first.bounding_box()
        assert box["y"] + box["height"] <= 900, selector
    tab.close()


def test_tables_sort_by_number_and_back(browser, page):
    tab = browser.new_page()
    tab.goto(page.as_uri())
    table = tab.locator("#performance table").first
    heading = table.locator("th").filter(has_text="change")
    column = "rows => rows.map(row => Number(row.cells[7].dataset.sort))"
    heading.locator("button").click()
    ascending = table.locator("tbody tr").evaluate_all(column)
    heading.locator("button").click()
    descending = table.locator("tbody tr").evaluate_all(column)
    assert ascending == sorted(ascending) and descending == ascending[::-1] and ascending[0] < ascending[-1]
    assert heading.get_attribute("aria-sort") == "descending"
    tab.close()

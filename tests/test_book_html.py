"""The built book, opened from the file system in a real browser, on a desktop and on a phone."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
PAGES = sorted(
    path.relative_to(HTML).as_posix()
    for path in HTML.rglob("*.html")
    if "_static" not in path.parts and path != HTML / "index.html"
)
CHAPTERS = [page for page in PAGES if page.startswith(("book/", "notebooks/"))]

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
CHROMIUMS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = pytest.mark.book


class Visit:
    """One page in the browser, and what it asked for and complained about."""

    def __init__(self, browser: Browser, page: str, viewport: dict[str, int], **context: str):
        self.context = browser.new_context(viewport=viewport, **context)
        self.page: Page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("requestfailed", lambda request: self.complaints.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console",
            lambda said: self.complaints.append(said.text) if said.type == "error" else None,
        )
        self.page.goto(f"{HTML.as_uri()}/{page}", wait_until="load")

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *raised: object) -> None:
        self.context.close()

    def scroll_through(self) -> None:
        """As a reader does, so that what loads late is loaded too."""
        self.page.evaluate("() => window.scrollTo(0, document.body.scrollHeight)")
        self.page.wait_for_load_state("networkidle")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHAPTERS:
        pytest.fail("There is no built book in _build/html: run `make book` first.")
    found = [os.environ.get("CHROMIUM"), *map(shutil.which, CHROMIUMS)]
    executable = next(filter(None, found), None)
    if executable is None:
        pytest.fail("No Chromium or Chrome found: install one, or name it in CHROMIUM.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


def test_the_first_page_leads_into_the_book(browser: Browser) -> None:
    with Visit(browser, "index.html", DESKTOP) as visit:
        visit.page.wait_for_url("**/book/intro.html")
        assert visit.page.locator(".bd-article h1").count() == 1


@pytest.mark.parametrize("page", PAGES)
def test_desktop(browser: Browser, page: str) -> None:
    with Visit(browser, page, DESKTOP) as visit:
        visit.scroll_through()
        outward = [url for url in visit.requests if not url.startswith(("file:", "data:"))]
        assert not outward, "the page asks another host"
        assert not visit.complaints, "the page complains"
        images = visit.page.locator("main img").evaluate_all(
            "all => all.map(i => ({src: i.src, alt: i.alt, seen: i.naturalWidth > 0}))"
        )
        for image in images:
            assert image["seen"], f"{image['src']} does not load"
            assert image["alt"].strip(), f"{image['src']} has no alt text"
            assert not re.search(r"/|\.(png|svg|jpe?g)$", image["alt"]), f"{image['alt']} is a path"
        hrefs = visit.page.locator("a[href]").evaluate_all("all => all.map(a => a.href)")
        files = {unquote(urlsplit(href).path) for href in hrefs if href.startswith("file:")}
        assert not [path for path in files if not Path(path).exists()], "a link leads nowhere"


ANCHOR = re.compile(r'\bid="([^"]+)"')
TO_A_PLACE = re.compile(r'href="([^"#:]*)#([^"]+)"')


@pytest.mark.parametrize("page", CHAPTERS)
def test_links_lead_to_their_place(page: str) -> None:
    """Whoever follows a link to a section comes to that section, not to the top of its page."""
    here = HTML / page
    for path, place in TO_A_PLACE.findall(here.read_text(encoding="utf-8")):
        there = (here.parent / unquote(path)).resolve() if path else here
        assert unquote(place) in ANCHOR.findall(there.read_text(encoding="utf-8")), (path, place)


@pytest.mark.parametrize("page", CHAPTERS)
def test_phone(browser: Browser, page: str) -> None:
    with Visit(browser, page, PHONE) as visit:
        width = visit.page.evaluate("() => document.documentElement.scrollWidth")
        assert width <= PHONE["width"], f"the page is {width} px wide"

        menu = visit.page.locator("#pst-primary-sidebar, .bd-sidebar-primary").first
        entry = menu.locator("nav a.reference.internal:visible").last
        visit.page.locator("button.primary-toggle:visible, label.primary-toggle:visible").click()
        entry.wait_for(state="visible", timeout=3000)
        entry.click()
        visit.page.wait_for_load_state("load")
        assert visit.page.locator(".bd-article h1").count() == 1
        assert not visit.complaints, "the page complains"


@pytest.mark.parametrize("page", CHAPTERS)
def test_figures_in_the_dark(browser: Browser, page: str) -> None:
    with Visit(browser, page, DESKTOP, color_scheme="dark") as visit:
        styles = visit.page.locator(".cell_output img").evaluate_all(
            "all => all.map(i => [getComputedStyle(i).backgroundColor, getComputedStyle(i).filter])"
        )
        assert all(style == ["rgb(255, 255, 255)", "none"] for style in styles), styles


def test_search_finds_a_word(browser: Browser) -> None:
    with Visit(browser, "search.html?q=shard", DESKTOP) as visit:
        visit.page.locator("#search-results li").first.wait_for(timeout=10_000)

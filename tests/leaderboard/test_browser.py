"""The built site in Chromium, from files and over loopback: it works, is accessible, and asks nobody else."""

import importlib.util
import json
import re
import threading
from pathlib import Path

import pytest

from bgbench.leaderboard.serve import server
from bgbench.leaderboard.site import build


def load():
    spec = importlib.util.spec_from_file_location("browser", Path(__file__).parent / "browser.py")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name.
    import sys

    sys.modules["browser"] = module
    spec.loader.exec_module(module)
    return module


web = load()
TABLE = "tables/tiny-1-bgbench-1-100.html"
PAGES = (
    "index.html",
    TABLE,
    "entries/entry-000.html",
    "entries/entry-009.html",
    "systems/tiny-1--AA.html",
    "rules.html",
)


@pytest.fixture(scope="module")
def site(clone_entries, published, tmp_path_factory):
    """Twenty made-up entries, two of them incomplete, and the pictures of a real one."""
    import shutil

    folder = tmp_path_factory.mktemp("web")
    board = clone_entries(folder / "board", 20)
    shutil.copytree(published / "records" / "verse", board / "records" / "verse")
    build(board, folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def browser():
    with web.chromium() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def loopback(site):
    with server(site, 0) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture(params=["file", "loopback"])
def base(request, site, loopback):
    return site.as_uri() if request.param == "file" else loopback


@pytest.mark.parametrize("path", [*PAGES, "entries/verse.html"])
def test_every_kind_of_page_opens_without_a_word_and_asks_nobody_else(browser, base, path):
    with web.opened(browser) as watched:
        watched.page.goto(f"{base}/{path}", wait_until="networkidle")
        assert watched.page.evaluate("document.documentElement.dataset.ready") == "yes"
        assert watched.page.locator("h1").count() == 1
        assert watched.complaints == []
        assert watched.requests
        assert watched.strangers(base) == []


def column(page, index):
    return page.locator(f"table.board tbody tr:not([hidden]) > :nth-child({index})").evaluate_all(
        "cells => cells.map(cell => cell.dataset.sort)"
    )


def test_sorting_by_mouse_and_keyboard(browser, base):
    with web.opened(browser) as watched:
        page = watched.page
        page.goto(f"{base}/{TABLE}")
        head = page.locator("thead th").nth(3)
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "ascending"
        values = [float(text) for text in column(page, 4) if text]
        assert values == sorted(values)
        assert len(values) == 19
        assert column(page, 4)[-2:] == ["", ""], "entries without a number come last"
        head.locator("button").focus()
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "descending"
        values = [float(text) for text in column(page, 4) if text]
        assert values == sorted(values, reverse=True)
        assert column(page, 4)[-2:] == ["", ""]
        page.locator("thead th").nth(0).locator("button").click()
        names = column(page, 1)
        assert names[0] == "verse"
        assert names[1].endswith("v0)")
        assert names[-1].endswith("v19)"), "2 comes before 10"
        assert page.locator("thead [aria-sort]").count() == 1


def test_filtering(browser, base):
    with web.opened(browser) as watched:
        page = watched.page
        page.goto(f"{base}/{TABLE}")
        count = page.locator("[data-filter-count]")
        assert count.inner_text() == "21 of 21 entries"
        page.get_by_label("Sampler").fill("variant=v1")
        assert count.inner_text() == "11 of 21 entries"
        page.get_by_label("complete only").check()
        assert count.inner_text() == "10 of 21 entries"
        page.get_by_label("Sampler").fill("no such sampler")
        assert count.inner_text() == "0 of 21 entries"
        page.get_by_label("Sampler").fill("")
        page.get_by_label("Tier, at least").select_option("reproduced")
        assert count.inner_text() == "0 of 21 entries"
        assert watched.complaints == []


def test_the_theme_is_chosen_and_kept(browser, loopback):
    with web.opened(browser, color_scheme="light") as watched:
        page = watched.page
        page.goto(f"{loopback}/index.html")
        colour = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(colour)
        button = page.locator("[data-theme-button]")
        button.click()
        assert button.inner_text() == "Theme: light"
        assert page.evaluate(colour) == light
        button.click()
        assert button.inner_text() == "Theme: dark"
        dark = page.evaluate(colour)
        assert dark != light
        page.goto(f"{loopback}/rules.html")
        assert page.evaluate(colour) == dark
        page.locator("[data-theme-button]").click()
        assert page.evaluate(colour) == light


def test_the_systems_theme_is_the_default(browser, site):
    shown = {}
    for scheme in ("light", "dark"):
        with web.opened(browser, color_scheme=scheme) as watched:
            watched.page.goto(f"{site.as_uri()}/index.html")
            shown[scheme] = watched.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert shown["light"] != shown["dark"]


def test_from_the_first_page_to_an_entry_and_its_system(browser, base):
    from playwright.sync_api import expect

    # A click returns before the page it leads to is there: what follows one is waited for.
    with web.opened(browser) as watched:
        page = watched.page
        page.goto(f"{base}/index.html")
        page.get_by_role("link", name="All columns, curves and filters").click()
        expect(page).to_have_url(f"{base}/{TABLE}")
        page.locator("table.board tbody th a").first.click()
        expect(page).to_have_url(re.compile("/entries/"))
        expect(page.get_by_role("heading", name="Make it again")).to_be_visible()
        page.locator("table.plain tbody th a").first.click()
        expect(page).to_have_url(f"{base}/systems/tiny-1--AA.html")
        page.go_back()
        page.go_back()
        expect(page).to_have_url(f"{base}/{TABLE}")
        assert watched.complaints == []
        assert watched.strangers(base) == []


def test_downloads(browser, loopback, tmp_path):
    with web.opened(browser, accept_downloads=True) as watched:
        watched.page.goto(f"{loopback}/{TABLE}")
        for name in ("CSV", "JSON"):
            with watched.page.expect_download() as waiting:
                watched.page.locator(".downloads").get_by_role("link", name=name).click()
            waiting.value.save_as(tmp_path / name)
        assert (tmp_path / "CSV").read_text().startswith("entry,sampler,")
        assert len(json.loads((tmp_path / "JSON").read_text())["entries"]) == 21


@pytest.mark.parametrize("path", PAGES)
def test_no_page_scrolls_sideways_on_a_phone(browser, site, path):
    with web.opened(browser, viewport={"width": 390, "height": 800}) as watched:
        watched.page.goto(f"{site.as_uri()}/{path}")
        widths = watched.page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert widths[0] <= widths[1] == 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_no_serious_violation(browser, site, path, scheme):
    from axe_playwright_python.sync_playwright import Axe

    with web.opened(browser, color_scheme=scheme, bypass_csp=True) as watched:
        watched.page.goto(f"{site.as_uri()}/{path}")
        violations = Axe().run(watched.page).response["violations"]
        bad = [
            (v["id"], [n["html"][:150] for n in v["nodes"][:3]])
            for v in violations
            if v["impact"] in ("serious", "critical")
        ]
        assert bad == []


def test_the_keyboard_reaches_the_content_first(browser, site):
    with web.opened(browser) as watched:
        watched.page.goto(f"{site.as_uri()}/index.html")
        watched.page.keyboard.press("Tab")
        assert watched.page.evaluate("document.activeElement.textContent") == "Skip to the content"
        watched.page.keyboard.press("Enter")
        watched.page.keyboard.press("Tab")
        assert watched.page.evaluate("document.querySelector('main').contains(document.activeElement)")


def test_pages_are_whole_without_scripts(browser, site):
    with web.opened(browser, java_script_enabled=False) as watched:
        watched.page.goto(f"{site.as_uri()}/{TABLE}")
        assert watched.page.locator("table.board tbody tr").count() == 21


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_screenshots_are_kept(browser, site, width, scheme):
    for path in (*PAGES[:3], "entries/verse.html"):
        with web.opened(browser, viewport={"width": width, "height": 900}, color_scheme=scheme) as watched:
            watched.page.goto(f"{site.as_uri()}/{path}")
            name = f"{path.replace('/', '-').removesuffix('.html')}-{width}-{scheme}.png"
            watched.page.screenshot(path=web.artefacts() / name, full_page=True)
            assert (web.artefacts() / name).stat().st_size > 10_000

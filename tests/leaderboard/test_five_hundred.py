"""Five hundred entries: build under a minute, pages under 2 MB, interactive in two seconds."""

import importlib.util
import sys
import time
from pathlib import Path

import pytest

from bgbench.leaderboard.site import build

ENTRIES = 500
pytestmark = pytest.mark.slow


def load(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(clone_entries, tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    board = clone_entries(folder / "board", ENTRIES)
    started = time.process_time()
    build(board, folder / "site")
    return folder / "site", time.process_time() - started


def test_five_hundred_entries_are_built_in_a_minute(made):
    site, seconds = made
    sizes = {path.name: path.stat().st_size for path in site.rglob("*.html")}
    largest = max(sizes, key=sizes.get)
    page = f"{largest} {sizes[largest]:,} bytes"
    print(f"\n{ENTRIES} entries: {seconds:.1f} s of one core, {len(sizes)} pages, {page}")
    assert seconds < 60
    assert sizes[largest] < 2_000_000


def test_the_table_of_five_hundred_is_interactive_in_two_seconds(made):
    site, _ = made
    web = load("browser")
    with web.chromium() as browser, web.opened(browser) as watched:
        started = time.perf_counter()
        watched.page.goto(f"{site.as_uri()}/tables/tiny-1-bgbench-1-100.html")
        watched.page.wait_for_function("document.documentElement.dataset.ready === 'yes'")
        ready = time.perf_counter() - started
        started = time.perf_counter()
        watched.page.locator("thead th button").nth(3).click()
        watched.page.wait_for_function("document.querySelector('thead [aria-sort]') !== null")
        sort = time.perf_counter() - started
        rows = watched.page.locator("table.board tbody tr").count()
        seen = watched.page.locator("table.board tbody tr:visible").count()
        watched.page.get_by_role("button", name="Show all rows").click()
        everything = watched.page.locator("table.board tbody tr:visible").count()
    print(f"\n{rows} rows: interactive after {ready:.2f} s, sorted in {sort:.2f} s")
    assert rows == everything == ENTRIES
    assert seen == 100
    assert ready < 2
    assert sort < 2

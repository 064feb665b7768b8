"""Debian's Chromium, headless, which may ask nobody but this machine for anything."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
CHROMIUM = shutil.which("chromium")


@dataclass
class Watched:
    """A page, and what it asked for and complained of since it was opened."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def strangers(self, *known: str) -> list[str]:
        """Requests that went elsewhere than to addresses that begin with one of `known`."""
        return [url for url in self.requests if not url.startswith((*known, "data:", "blob:"))]


def needs_chromium() -> None:
    """Skip with a reason where there is no Chromium; in CI that is a failure."""
    if CHROMIUM is None:
        text = "no chromium on this machine: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser."""
    needs_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, **context: Any) -> Iterator[Watched]:
    """A fresh page whose requests and complaints are kept."""
    made = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
    watched = Watched(made.new_page())
    watched.page.on("request", lambda request: watched.requests.append(request.url))
    watched.page.on(
        "console",
        lambda message: message.type in ("error", "warning") and watched.complaints.append(message.text),
    )
    watched.page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    yield watched
    made.close()


def artefacts() -> Path:
    """Where screenshots are kept: `$CI_ARTEFACTS`, else `build/screenshots`."""
    root = Path(__file__).parent.parent.parent
    folder = Path(os.environ.get("CI_ARTEFACTS") or root / "build") / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder

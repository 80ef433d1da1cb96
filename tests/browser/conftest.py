"""A real Chromium and the real app for the browser tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.app_process import CHROMIUM, CHROMIUM_ARGS, RunningApp, start_app


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A browser test that fails is run again, at most twice: on a busy machine a click can come before the page is ready for it."""
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.flaky(reruns=2, reruns_delay=2))


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, headless. Playwright keeps an event loop running, so it must be gone before other tests bring theirs."""
    if not Path(CHROMIUM).exists():
        pytest.skip(f"{CHROMIUM} is not installed (apt-get install chromium)")
    expect.set_options(timeout=30_000)  # a busy machine is slow, not wrong
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """The app on an empty workspace, shared by the tests of a file."""
    with start_app(tmp_path_factory.mktemp("app") / "workspace") as running:
        yield running


def open_page(browser: Browser, app: RunningApp, *, locale: str = "ja-JP", width: int = 1400, height: int = 950) -> Page:
    """A page of a person of their own, opened and ready to run."""
    page = browser.new_context(locale=locale, viewport={"width": width, "height": height}).new_page()
    page.set_default_timeout(90_000)
    page.goto(app.url)
    page.wait_for_selector("#variable-1 textarea, #variable-0 textarea")
    return page

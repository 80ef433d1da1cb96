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


@pytest.fixture(autouse=True)
def close_pages(request: pytest.FixtureRequest) -> Iterator[None]:
    """The pages a test opened end with it, also where it fails: each keeps asking the app for news, and the next test would be slower."""
    if "browser" not in request.fixturenames:
        yield
        return
    browser: Browser = request.getfixturevalue("browser")
    before = [*browser.contexts]
    yield
    for context in browser.contexts:
        if context not in before:
            for page in context.pages:
                page.unroute_all(behavior="ignoreErrors")
            context.close()


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


def open_tab(page: Page, bar: str, id: str, name: str) -> None:
    """Choose a tab, also where a phone has it behind three dots."""
    tab = page.locator(f"#{bar} > .tab-wrapper [role=tab][data-tab-id={id}]").first
    if tab.is_visible():
        tab.click()
    else:
        page.locator(f"#{bar} > .tab-wrapper .overflow-menu > button").first.click()
        page.locator(f"#{bar} > .tab-wrapper .overflow-dropdown button", has_text=name).click()

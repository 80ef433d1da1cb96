"""Takes the pictures of the README and of docs/img: `make screenshots`."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, expect, sync_playwright

from tests.app_process import CHROMIUM, CHROMIUM_ARGS, ROOT, RunningApp, start_app

FOLDER = ROOT / "docs" / "img"
SIZES = {"desktop": (1400, 900), "phone": (390, 844)}
DONE = {"ja": "合計", "en": "in all"}


def take(browser: Browser, app: RunningApp, language: str, device: str) -> None:
    """The Try tab after a run, in one language and size."""
    width, height = SIZES[device]
    context = browser.new_context(locale={"ja": "ja-JP", "en": "en-US"}[language], viewport={"width": width, "height": height})
    page = context.new_page()
    page.goto(app.url)
    page.wait_for_selector("#variable-1 textarea", timeout=120_000)
    expect(page.locator("#open-models")).to_contain_text("●", timeout=120_000)  # loaded: the picture shows the usual speed
    page.click("#run")
    for pane in (0, 1):
        expect(page.locator(f"#facts-{pane}")).to_contain_text(DONE[language], timeout=120_000)
    page.wait_for_timeout(500)
    if device == "phone":
        page.screenshot(path=FOLDER / f"playground-{language}-phone.png")
        page.locator("#chat-0").scroll_into_view_if_needed()
        page.screenshot(path=FOLDER / f"playground-{language}-phone-answer.png")
    else:
        page.screenshot(path=FOLDER / f"playground-{language}-desktop.png")
    context.close()


def take_documents(browser: Browser, app: RunningApp, language: str) -> None:
    """The Documents tab: the quality report of the sample documents, and an answer with the page its citation opens."""
    width, height = SIZES["desktop"]
    context = browser.new_context(locale={"ja": "ja-JP", "en": "en-US"}[language], viewport={"width": width, "height": height})
    page = context.new_page()
    page.goto(app.url)
    page.wait_for_selector("#variable-1 textarea", timeout=120_000)
    page.get_by_role("tab", name={"ja": "文書に質問", "en": "Documents"}[language]).click()
    page.click("#documents-sample")
    index = page.get_by_role("button", name=re.compile("このまま索引する（6件）|Index as they are \\(6\\)"))
    expect(index).to_be_visible(timeout=120_000)
    expect(page.locator("#documents-cancel")).to_be_hidden(timeout=120_000)
    page.get_by_text("加湿器の取扱説明書.pdf").first.click()
    page.wait_for_timeout(4000)
    page.screenshot(path=FOLDER / f"documents-{language}-report.png", full_page=True)
    index.click()
    expect(page.locator("#documents-about")).to_contain_text(re.compile("検索できるもの6件|6 of them searchable"), timeout=120_000)
    page.get_by_role("tab", name={"ja": "質問する", "en": "Ask"}[language], exact=True).click()
    page.locator("#ask-question textarea, #ask-question input").fill("フィルターはどのくらいで交換しますか？")
    page.keyboard.press("Enter")
    expect(page.locator("#ask-now")).to_contain_text(DONE[language], timeout=120_000)
    page.locator("#ask-now .cite").first.click()
    page.wait_for_timeout(3000)
    page.screenshot(path=FOLDER / f"documents-{language}-answer.png")
    context.close()


def take_opinions(browser: Browser, app: RunningApp, language: str) -> None:
    """The Compare tab with a blind duel over the example, and the Feedback tab with the sample campaign."""
    width, height = SIZES["desktop"]
    context = browser.new_context(locale={"ja": "ja-JP", "en": "en-US"}[language], viewport={"width": width, "height": height})
    page = context.new_page()
    page.goto(app.url)
    page.wait_for_selector("#variable-1 textarea", timeout=120_000)
    page.get_by_role("tab", name={"ja": "比較", "en": "Compare"}[language], exact=True).click()
    page.wait_for_selector("#duel-example, #duel-a", timeout=60_000)
    page.wait_for_timeout(2000)
    if page.locator("#duel-example").is_visible():
        page.click("#duel-example")
    page.wait_for_selector("#duel-a", timeout=240_000)
    page.wait_for_timeout(1000)
    page.screenshot(path=FOLDER / f"comparison-{language}-duel.png")
    page.get_by_role("tab", name={"ja": "フィードバック", "en": "Feedback"}[language], exact=True).click()
    page.wait_for_timeout(3000)
    if page.locator("#feedback-sample").is_visible():
        page.click("#feedback-sample")
    page.wait_for_selector("#feedback-submit", timeout=60_000)
    page.wait_for_timeout(1500)
    page.screenshot(path=FOLDER / f"feedback-{language}-rate.png")
    context.close()


def take_tuning(browser: Browser, app: RunningApp, language: str) -> None:
    """The Fine-tune tab: the bundled set with its plan, then the finished job, wide and on a phone."""
    width, height = SIZES["desktop"]
    context = browser.new_context(locale={"ja": "ja-JP", "en": "en-US"}[language], viewport={"width": width, "height": height})
    page = context.new_page()
    page.goto(app.url)
    page.wait_for_selector("#variable-1 textarea", timeout=120_000)
    page.get_by_role("tab", name={"ja": "ファインチューニング", "en": "Fine-tune"}[language], exact=True).click()
    expect(page.locator("#tuning-start")).to_be_enabled(timeout=120_000)
    expect(page.locator("#tuning-preview")).not_to_be_empty(timeout=60_000)
    page.locator("#tuning-name input, #tuning-name textarea").fill({"ja": "teinei", "en": "polite"}[language])
    page.wait_for_timeout(1500)
    page.screenshot(path=FOLDER / f"tuning-{language}-start.png")
    page.click("#tuning-start")
    expect(page.locator("#tuning-card")).to_contain_text({"ja": "完了", "en": "finished"}[language], timeout=900_000)
    page.wait_for_timeout(1500)
    page.screenshot(path=FOLDER / f"tuning-{language}-job.png")
    page.set_viewport_size({"width": SIZES["phone"][0], "height": SIZES["phone"][1]})
    page.wait_for_timeout(1500)
    page.screenshot(path=FOLDER / f"tuning-{language}-phone-job.png")
    context.close()


def main() -> None:
    """All languages and sizes on one app."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, start_app(Path(folder) / "workspace") as app, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        for language in DONE:
            for device in SIZES:
                take(browser, app, language, device)
            take_documents(browser, app, language)
            take_opinions(browser, app, language)
            take_tuning(browser, app, language)
        browser.close()


if __name__ == "__main__":
    main()

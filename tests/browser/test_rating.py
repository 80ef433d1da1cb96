"""Rating an answer where it stands: thumbs, the box that opens for more, and what of it is in the store."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from llmops_kit import open_kit
from llmops_kit.kit import Kit
from llmops_kit.types import Feedback
from tests.app_process import RunningApp
from tests.browser.conftest import open_page
from tests.browser.test_playground import wait_for_words

pytestmark = pytest.mark.browser


def answered(browser: Browser, app: RunningApp, **how: object) -> Page:
    """A page whose first two panes have answered."""
    page = open_page(browser, app, **how)  # type: ignore[arg-type]
    page.click("#run")
    for pane in (0, 1):
        wait_for_words(page, pane)
        expect(page.locator(f"#facts-{pane}")).to_contain_text("in all" if how.get("locale") == "en-US" else "合計", timeout=60_000)
    return page


def ratings(kit: Kit) -> list[Feedback]:
    return kit.feedback.events(every=True)


def test_thumbs_reach_the_store_once_and_are_the_persons_own(browser: Browser, app: RunningApp) -> None:
    page = answered(browser, app)
    with open_kit(app.workspace) as kit:
        before = len(ratings(kit))
        page.dblclick("#rate-up-pane-0")
        page.wait_for_function("document.querySelector('#rate-up-pane-0').className.includes('primary')")
        up = [event for event in ratings(kit)[before:] if not event.withdrawn]
        assert [event.scores for event in up] == [{"thumb": 1}], "two clicks at once are one rating"
        page.click("#rate-down-pane-0")
        page.wait_for_function("document.querySelector('#rate-down-pane-0').className.includes('primary')")
        run = kit.playground.get(up[0].run_id)
        assert run is not None and kit.feedback.thumb_of(run, rater=run.participant) == -1
        page.wait_for_timeout(1200)  # a second click within a second is a double click
        page.click("#rate-down-pane-0")
        page.wait_for_function("!document.querySelector('#rate-down-pane-0').className.includes('primary')")
        assert kit.feedback.thumb_of(run, rater=run.participant) == 0
    page.context.close()


def test_what_is_said_in_the_box_reaches_the_store(browser: Browser, app: RunningApp) -> None:
    page = answered(browser, app)
    with open_kit(app.workspace) as kit:
        page.click("#rate-more-pane-1")
        expect(page.locator("#rate-save-playground")).to_be_visible()
        page.locator("#rate-score-playground").get_by_label("4", exact=True).check()
        page.locator("#rate-comment-playground textarea").fill("わかりやすい🙂 ―髙﨑")
        page.locator("#rate-fold-playground").get_by_role("button").first.click()
        page.locator("#rate-accuracy-playground").get_by_label("5", exact=True).check()
        page.locator("#rate-tags-playground textarea, #rate-tags-playground input").first.fill("要約、短い")
        page.locator("#rate-correction-playground textarea").fill("こう書いてほしい。")
        page.click("#rate-save-playground")
        expect(page.locator(".toast-wrap")).to_contain_text("評価を保存しました")
        expect(page.locator("#rate-save-playground")).to_be_hidden()
        said = ratings(kit)[-1]
        assert (said.score, said.scores["accuracy"], said.comment) == (4, 5, "わかりやすい🙂 ―髙﨑")
        run = kit.playground.get(said.run_id)
        assert run is not None and (said.tags, said.correction) == (("要約", "短い"), "こう書いてほしい。")
        assert (said.source, said.rater) == ("ui", run.participant)
    page.context.close()


def test_an_answer_opened_from_the_history_is_rated_and_shows_its_thumb(browser: Browser, app: RunningApp) -> None:
    page = answered(browser, app, locale="en-US")
    page.get_by_role("tab", name="History").click()
    with open_kit(app.workspace) as kit:
        run = kit.playground.history(limit=1)[0]
        page.locator("#history-table").get_by_role("gridcell", name=run.id).first.click()
        expect(page.locator("#history-chosen textarea, #history-chosen input")).to_have_value(run.id)
        page.click("#rate-down-history")
        page.wait_for_function("document.querySelector('#rate-down-history').className.includes('primary')")
        assert kit.feedback.thumb_of(run, rater=run.participant) == -1
    page.context.close()


def test_before_an_answer_there_is_nothing_to_rate(browser: Browser, app: RunningApp) -> None:
    page = open_page(browser, app)
    page.click("#rate-up-pane-0")
    expect(page.locator(".toast-wrap")).to_contain_text("まだ回答がありません")
    page.context.close()

"""The Compare tab in a real Chromium: blind until the vote, by keyboard alone, answers side by side, a test set, and the ranking."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page, Request, Route, expect

from llmops_kit import open_kit
from llmops_kit.comparison import Variant
from llmops_kit.types import Comparison, Vote
from tests.app_process import RunningApp, start_app
from tests.browser.conftest import open_page, open_tab

pytestmark = pytest.mark.browser
SECRETS = ("kitsune-7", "tanuki-9")
"""What the variants are called: words that are nowhere else on the page."""
ANSWERS = re.compile("全体で")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """The app on a workspace that has a finished comparison of two variants on four items."""
    workspace = tmp_path_factory.mktemp("compare") / "workspace"
    rows = [{"sources": f"[1] 会議は{hour}時に始まります。", "question": f"会議{hour}は何時に始まりますか？"} for hour in (9, 10, 13, 15)]
    named = [Variant("starter-reader", label=SECRETS[0]), Variant("starter-lm", params={"max_tokens": 8}, label=SECRETS[1])]
    with open_kit(workspace, local_threads=1) as kit:
        kit.comparison.batch("answer_from_sources", named, rows, progress=False)
    with start_app(workspace) as running:
        yield running


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """An app of its own for tests that make comparisons, which would be among the pairs of the others."""
    with start_app(tmp_path_factory.mktemp("studio") / "workspace") as running:
        yield running


@pytest.fixture
def page(browser: Browser, app: RunningApp) -> Iterator[Page]:
    """The Compare tab of a new person, with a pair to vote on."""
    opened = open_compare(browser, app)
    yield opened
    opened.context.close()


@pytest.fixture
def desk(browser: Browser, studio: RunningApp) -> Iterator[Page]:
    """The Compare tab of a new person who makes comparisons."""
    opened = open_page(browser, studio)
    opened.get_by_role("tab", name="比較", exact=True).click()
    expect(opened.locator("#duel-told .told")).to_be_visible()
    yield opened
    opened.context.close()


def open_compare(browser: Browser, app: RunningApp, **size: Any) -> Page:
    page = open_page(browser, app, **size)
    open_tab(page, "nouns", "comparison", "比較")
    expect(page.locator("#duel-a")).to_be_visible()
    return page


def own_votes(app: RunningApp, page: Page) -> list[Vote]:
    """The votes of this page's person that count, as another process reads them from the workspace."""
    (cookie,) = [each for each in page.context.cookies() if each.get("httpOnly")]
    with open_kit(app.workspace) as kit:
        return kit.comparison.votes(rater=str(cookie["value"]).rpartition(".")[0])


def press(page: Page, key: str, told: str) -> None:
    """Press a key and wait for what the page says next."""
    page.keyboard.press(key)
    expect(page.locator("#duel-told")).to_contain_text(told)


def test_the_names_are_nowhere_until_the_vote(browser: Browser, app: RunningApp) -> None:
    page, finished, streams = open_page(browser, app), [], []

    def keep(route: Route) -> None:
        answer = route.fetch()
        streams.append(answer.text())
        route.fulfill(response=answer)

    page.route("**/queue/data*", keep)
    page.on("requestfinished", lambda request: finished.append(request))
    page.get_by_role("tab", name="比較", exact=True).click()
    expect(page.locator("#duel-a")).to_be_visible()
    expect(page.locator("#duel-question")).to_contain_text("何時に始まりますか")
    received = "\n".join([*streams, *(body_of(request) for request in finished)])
    assert "duel-question" in page.content() and "何時に始まりますか" in received  # so the answers were among what was received
    seen = page.content() + received
    with open_kit(app.workspace) as kit:
        made = kit.store.find(Comparison, newest_first=False)[0]
        runs = [run.id for run in kit.comparison.runs(made.id)]
    assert not [secret for secret in (*SECRETS, *runs) if secret in seen]
    page.click("#duel-a")
    expect(page.locator("#duel-pair")).to_contain_text(SECRETS[0])
    expect(page.locator("#duel-pair")).to_contain_text(SECRETS[1])
    (vote,) = own_votes(app, page)
    assert vote.choice == "A" and vote.blinded and vote.source == "ui" and (vote.duration_s or 0) > 0.5
    page.unroute_all(behavior="ignoreErrors")  # an answer may be on its way
    page.context.close()


def body_of(request: Request) -> str:
    """What came back for a request that is finished, or nothing."""
    try:
        response = request.response()
        return response.text() if response is not None else ""
    except Error:  # a response without a body
        return ""


def test_the_keyboard_alone_votes_undoes_and_goes_on(app: RunningApp, page: Page) -> None:
    press(page, "ArrowLeft", "Aを選びました")
    page.keyboard.press("ArrowLeft")  # once more, by mistake
    press(page, "Backspace", "取り消しました")
    expect(page.locator("#duel-pair")).not_to_contain_text(SECRETS[0])
    assert own_votes(app, page) == []
    press(page, "ArrowUp", "引き分け")
    for key, told in (("ArrowDown", "どちらも不可"), ("ArrowRight", "Bを選びました"), ("ArrowLeft", "Aを選びました")):
        press(page, "Enter", "どちらの回答が良いですか")
        press(page, key, told)
    assert [(vote.choice, vote.blinded) for vote in own_votes(app, page)] == [("tie", False), ("both_bad", True), ("B", True), ("A", True)]
    press(page, "Enter", "すべて投票しました")
    expect(page.locator("#duel-progress")).to_contain_text("あなたの投票4件")


def test_a_key_is_not_a_vote_while_something_is_typed_or_pressed_twice(app: RunningApp, page: Page) -> None:
    page.locator("#duel-comparison input").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(400)
    assert own_votes(app, page) == []
    page.keyboard.press("Escape")
    page.locator("#duel-told").click()
    page.evaluate("document.activeElement && document.activeElement.blur()")
    composing = "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft', isComposing: true, bubbles: true}))"
    page.evaluate(composing)
    page.wait_for_timeout(400)
    assert own_votes(app, page) == []
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")  # the second one comes too soon to mean the next pair
    expect(page.locator("#duel-next")).to_be_visible()
    page.wait_for_timeout(900)
    expect(page.locator("#duel-next")).to_be_visible()
    press(page, "ArrowRight", "どちらの回答が良いですか")
    assert [vote.choice for vote in own_votes(app, page)] == ["B"]


def test_undo_goes_away_after_ten_seconds(page: Page) -> None:
    page.click("#duel-tie")
    expect(page.locator("#duel-undo")).to_be_visible()
    expect(page.locator("#duel-undo")).to_be_hidden(timeout=15_000)
    expect(page.locator("#duel-next")).to_be_visible()


def test_answers_side_by_side_grow_at_once_and_show_what_differs(desk: Page) -> None:
    desk.get_by_role("tab", name="並べて比較").click()
    expect(desk.locator("#side-model-1 input")).to_have_value("starter-reader")
    desk.locator("#side-model-1 input").click()
    desk.get_by_role("option", name="starter-lm", exact=True).click()
    desk.locator("#side-more-1 > button").click()
    desk.locator("#side-temperature-1 input").fill("1")
    desk.evaluate("""() => {
        window.grew = new Set();
        for (const place of [0, 1]) new MutationObserver(() => {
            const said = document.querySelector(`#side-answer-${place} .said`);
            if (said && said.textContent && !document.querySelector('#side-about').textContent.includes('全体で')) window.grew.add(place);
        }).observe(document.querySelector(`#side-answer-${place}`), {childList: true, subtree: true, characterData: true});
    }""")
    desk.click("#side-run")
    expect(desk.locator("#side-about")).to_contain_text(ANSWERS, timeout=90_000)
    assert desk.evaluate("[...window.grew].sort()") == [0, 1]
    expect(desk.locator("#side-answer-0 .tag")).to_have_text("ベースライン")
    expect(desk.locator("#side-answer-1 .facts")).to_contain_text("トークン")
    desk.locator("#side-baseline").get_by_text("starter-lm temperature=1").click()
    expect(desk.locator("#side-answer-1 .tag")).to_have_text("ベースライン")
    desk.locator("#side-code-drawer > button").click()
    expect(desk.locator("#side-code")).to_contain_text("Variant('starter-lm', params={'temperature': 1.0})")
    desk.click("#side-duel")
    expect(desk.locator("#duel-a")).to_be_visible()
    expect(desk.locator("#duel-pair")).not_to_contain_text("temperature")


def test_a_side_by_side_stops(desk: Page) -> None:
    desk.get_by_role("tab", name="並べて比較").click()
    expect(desk.locator("#side-model-0 input")).to_have_value("starter-lm")
    desk.click("#side-run")
    expect(desk.locator("#side-answer-0")).to_contain_text("starter-lm")
    desk.click("#side-stop")
    expect(desk.locator("#side-about")).to_contain_text(re.compile("停止しました|全体で"), timeout=60_000)


def test_a_test_set_of_three_rows_is_compared_voted_on_and_taken_home(desk: Page, tmp_path: Path) -> None:
    desk.get_by_role("tab", name="テストセット").click()
    (tmp_path / "rows.csv").write_text(
        "質問,資料,expected\n何時に始まる？,会議は9時です,9時\n誰が来る？,田中さんが来ます,田中さん\nどこ？,場所は大阪です,大阪\n", encoding="cp932"
    )
    with desk.expect_file_chooser() as chooser:
        desk.click("#test-upload")
    chooser.value.set_files(str(tmp_path / "rows.csv"))
    expect(desk.locator("#test-about")).to_contain_text("3行、3列")
    desk.click("#test-run")
    expect(desk.locator("#test-progress")).to_contain_text("6件中6件の回答・失敗0件", timeout=120_000)
    expect(desk.locator("#test-deltas")).to_contain_text("n = 3")
    expect(desk.locator("#test-deltas")).to_contain_text("差は未確認")
    desk.locator("#test-table").get_by_text("誰が来る？").last.click()
    expect(desk.locator("#test-row")).to_contain_text("田中さん")
    expect(desk.locator("#test-row mark").first).to_be_visible()
    with desk.expect_download() as download:
        desk.locator("#test-csv").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\xef\xbb\xbf")
    desk.click("#test-duel")
    expect(desk.locator("#duel-a")).to_be_visible()
    expect(desk.locator("#duel-question")).to_contain_text(re.compile("何時に始まる|誰が来る|どこ"))


def test_the_ranking_says_its_verdict_first_and_follows_new_votes(browser: Browser, app: RunningApp, page: Page) -> None:
    press(page, "ArrowLeft", "Aを選びました")
    page.get_by_role("tab", name="ランキング").click()
    verdict = page.locator("#ranking-board .verdict")
    expect(verdict).to_contain_text(SECRETS[0])
    expect(verdict).to_have_class(re.compile("grey"))
    expect(page.locator("#ranking-board .ranks tr")).to_have_count(3)
    before = page.locator("#ranking-board .dim").last.inner_text()
    page.locator("#ranking-live input").check()
    other = open_compare(browser, app)
    press(other, "ArrowUp", "引き分け")
    other.context.close()
    expect(page.locator("#ranking-board .dim").last).not_to_have_text(before, timeout=30_000)


def test_on_a_phone_the_buttons_are_in_reach_and_nothing_sticks_out(browser: Browser, app: RunningApp) -> None:
    page = open_compare(browser, app, width=390, height=700)
    expect(page.locator("#duel-votes")).to_be_in_viewport(ratio=1)
    wide: list[int] = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide[0] <= wide[1]
    for button in ("#duel-a", "#duel-tie", "#duel-bad", "#duel-b"):
        assert (page.locator(button).bounding_box() or {"height": 0})["height"] >= 44
    page.click("#duel-b")
    expect(page.locator("#duel-after")).to_be_in_viewport(ratio=1)
    page.context.close()


def test_the_first_person_compares_two_models_with_one_click(browser: Browser, tmp_path: Path) -> None:
    with start_app(tmp_path / "workspace") as app:
        page = open_page(browser, app)
        page.get_by_role("tab", name="比較", exact=True).click()
        expect(page.locator("#duel-told")).to_contain_text("比べる回答がまだありません")
        page.click("#duel-example")
        expect(page.locator("#duel-told progress")).to_be_visible()
        expect(page.locator("#duel-a")).to_be_visible(timeout=180_000)
        expect(page.locator("#duel-comparison input")).to_have_value(re.compile("6件×2"))
        page.context.close()

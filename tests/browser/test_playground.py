"""The Try tab as a workshop participant meets it, in a real Chromium on the real app."""

from __future__ import annotations

import re
import socket
import time
from random import randrange

import pytest
from playwright.sync_api import Browser, Page, expect

from llmops_kit.store import Store
from llmops_kit.types import Run, new_id
from tests.app_process import RunningApp
from tests.browser.conftest import open_page

pytestmark = pytest.mark.browser
LONG = 900
"""Tokens asked for where an answer has to be seen growing."""


def find_runs(app: RunningApp, wanted: int) -> list[Run]:
    store = Store(f"sqlite:///{app.workspace / 'kit.sqlite'}")
    try:
        end = time.monotonic() + 60
        while len(runs := store.find(Run)) < wanted and time.monotonic() < end:
            time.sleep(0.2)
        return runs
    finally:
        store.close()


def answer(page: Page, pane: int) -> str:
    bubbles = page.locator(f"#chat-{pane} .bot")
    return bubbles.last.inner_text() if bubbles.count() else ""


def set_number(page: Page, pane: int, label: str, value: str) -> None:
    """Put a value in a pane's setting, once the page has put its own there."""
    if not page.locator(f"#settings-{pane} input[type=range]").first.is_visible():
        page.locator(f"#settings-{pane} > button").click()
        expect(page.locator(f"#settings-{pane}").get_by_label("回答の最大長（トークン）").first).to_have_value("160", timeout=30_000)
    field = page.locator(f"#settings-{pane}").get_by_label(label).first
    field.fill(value)
    field.press("Tab")


def run_long(page: Page, pane: int) -> None:
    """Set a pane so that its answer hardly ever ends by itself."""
    set_number(page, pane, "回答の最大長（トークン）", str(LONG))
    set_number(page, pane, "温度", "2")


def wait_for_words(page: Page, pane: int) -> None:
    """Until a pane has begun to answer."""
    end = time.monotonic() + 90
    while len(answer(page, pane)) < 4:
        assert time.monotonic() < end, "no words were seen"
        page.wait_for_timeout(50)


def test_a_participant_runs_two_panes_and_stops_one(browser: Browser, app: RunningApp) -> None:
    page = open_page(browser, app, locale="en-US")
    outside: list[str] = []
    page.on("request", lambda request: outside.append(request.url) if not request.url.startswith((app.url, "data:", "blob:")) else None)
    expect(page.locator("#run")).to_have_text("Run")
    page.click("#to-japanese")
    expect(page.locator("#run")).to_have_text("実行")
    for pane in (0, 1):
        set_number(page, pane, "回答の最大長（トークン）", "11")
    page.locator("#prompt input").click()
    page.get_by_role("option").filter(has_text="要約").first.click()
    for pane in (0, 1):  # the prompt brings its own settings
        expect(page.locator(f"#settings-{pane}").get_by_label("回答の最大長（トークン）").first).to_have_value("160", timeout=30_000)
    for pane in (0, 1):
        run_long(page, pane)
    before = len(find_runs(app, 0))
    page.click("#run")
    both, end = False, time.monotonic() + 90
    while not both and time.monotonic() < end:
        texts = [answer(page, pane) for pane in (0, 1)]
        both = all(len(text) > 3 for text in texts) and "合計" not in page.locator("#facts-0").inner_text() + page.locator("#facts-1").inner_text()
    facts = [page.locator(f"#facts-{pane}").inner_text() for pane in (0, 1)]
    assert both, f"the two panes were not seen growing at the same time: {facts}"
    page.click("#stop-1")
    expect(page.locator("#facts-1")).to_contain_text("停止しました")
    stopped = answer(page, 1)
    expect(page.locator("#facts-0")).to_contain_text("合計", timeout=120_000)
    assert answer(page, 1) == stopped
    runs = find_runs(app, before + 2)[:2]
    assert {run.finish_reason for run in runs} - {"stop", "length"} == {"cancelled"}
    assert {run.prompt_name for run in runs} == {"summarize"}
    assert {run.participant for run in runs} != {"local"}
    assert outside == []


def test_the_stopped_and_the_finished_run_are_rows_of_the_wandb_table(browser: Browser, app: RunningApp) -> None:
    from llmops_kit.tracking import read_table

    page = open_page(browser, app)
    before = {run.id for run in find_runs(app, 0)}
    run_long(page, 1)
    page.click("#run")
    expect(page.locator("#facts-0")).to_contain_text("合計", timeout=120_000)
    wait_for_words(page, 1)
    page.click("#stop-1")
    expect(page.locator("#facts-1")).to_contain_text("停止しました")
    made = {run.id: run.finish_reason for run in find_runs(app, len(before) + 2) if run.id not in before}
    assert len(made) == 2 and "cancelled" in made.values()
    end, found = time.monotonic() + 90, {}
    while not made.keys() <= found.keys() and time.monotonic() < end:
        folder = app.workspace / "wandb"
        if folder.is_dir() and any(folder.rglob("*.wandb")):
            table = read_table(folder, "runs")
            found = dict(zip(table["run_id"], table["finish_reason"], strict=True)) if len(table) else {}
        time.sleep(1)
    assert {run_id: found.get(run_id) for run_id in made} == made
    page.context.close()


def test_run_pressed_again_does_not_take_the_stop_away(browser: Browser, app: RunningApp) -> None:
    page = open_page(browser, app)
    run_long(page, 1)
    page.dblclick("#run")
    wait_for_words(page, 1)
    page.click("#run")
    page.wait_for_timeout(1000)
    page.click("#stop-1")
    expect(page.locator("#facts-1")).to_contain_text("停止しました", timeout=15_000)
    stopped = answer(page, 1)
    page.wait_for_timeout(1500)
    assert answer(page, 1) == stopped
    page.context.close()


def test_a_stop_does_not_wait_for_a_silent_server(browser: Browser, app: RunningApp) -> None:
    page, name = open_page(browser, app), f"silent-{randrange(10**6)}"  # another one for another try
    with socket.create_server(("127.0.0.1", 0)) as silent:
        add_endpoint(page, name, f"http://127.0.0.1:{silent.getsockname()[1]}/v1")
        choose(page, "#model-1", name)
        page.click("#run")
        held = silent.accept()[0]
        expect(page.locator("#facts-0")).to_contain_text("合計", timeout=120_000)
        done = page.locator("#facts-0").inner_text()
        page.click("#stop-all")
        expect(page.locator("#facts-1")).to_contain_text("停止しました")  # although the server has said nothing yet
        held.close()
    expect(page.locator("#facts-1")).not_to_contain_text("待っています")
    assert page.locator("#facts-0").inner_text() == done
    page.context.close()


def test_the_sliders_follow_the_model_and_a_new_chat_is_empty(browser: Browser, app: RunningApp) -> None:
    page = open_page(browser, app)
    page.locator("#code-drawer > button").click()
    expect(page.locator("#code")).to_contain_text("kit.playground.run('summarize'")
    page.locator("#settings-1 > button").click()
    choose(page, "#model-1", "qwen3-0.6b")
    expect(page.locator("#settings-1").get_by_label("Top-k（0＝使わない）").first).to_have_value("20")
    expect(page.locator("#settings-1").get_by_label("Top-p").first).to_have_value("0.8")
    page.locator("#message textarea, #message input").fill("こんにちは")
    page.click("#send")
    expect(page.locator("#facts-0")).to_contain_text("合計", timeout=120_000)
    page.click("#new-chat")
    for pane in (0, 1):
        expect(page.locator(f"#facts-{pane}")).to_have_text("")
        expect(page.locator(f"#chat-{pane} .user")).to_have_count(0)
    page.locator("#message textarea, #message input").fill("はじめまして")
    page.click("#send")
    expect(page.locator("#facts-0")).to_contain_text("合計", timeout=120_000)
    expect(page.locator("#chat-0 .user")).to_have_count(1)
    page.context.close()


def test_two_people_at_once_see_nothing_of_each_other(browser: Browser, app: RunningApp) -> None:
    anna, ben = (open_page(browser, app) for _ in range(2))
    for page, secret in ((anna, "アンナの秘密の文章です。"), (ben, "ベンの内緒の文章です。")):
        page.locator("#variable-1 textarea").fill(secret)
        page.click("#open-models")
        page.locator("#models-key input").fill(f"sk-{secret}")
        page.click("#models-use-key")
        page.click("#run")
    for page in (anna, ben):
        expect(page.locator("#facts-0")).to_contain_text("合計", timeout=120_000)
        page.get_by_role("tab", name="履歴").click()
        expect(page.locator("#history-table")).to_contain_text("summarize")
    assert "アンナ" in anna.content() and "ベン" not in anna.content()
    assert "ベン" in ben.content() and "アンナ" not in ben.content()
    runs = [run for run in find_runs(app, 0) if "秘密" in str(run.variables) or "内緒" in str(run.variables)]
    assert len({run.participant for run in runs}) == 2
    assert "sk-" not in (app.workspace / "kit.sqlite").read_bytes().decode("utf-8", "ignore")
    for page in (anna, ben):
        page.context.close()


@pytest.mark.parametrize(("locale", "sentence"), [("ja-JP", "が空です"), ("en-US", "needs a value")])
def test_an_empty_field_is_a_sentence_in_the_readers_language_and_a_recorded_run(browser: Browser, app: RunningApp, locale: str, sentence: str) -> None:
    page = open_page(browser, app, locale=locale)
    before = len(find_runs(app, 0))
    page.locator("#variable-1 textarea").fill("")
    page.click("#run")
    for pane in (0, 1):
        expect(page.locator(f"#facts-{pane}")).to_contain_text(sentence)
    assert "Traceback" not in page.content()
    runs = find_runs(app, before + 2)
    assert all(run.error and run.finish_reason == "error" for run in runs[:2])
    page.context.close()


def test_a_megabyte_of_text_is_refused_with_the_numbers_and_the_app_lives(browser: Browser, app: RunningApp) -> None:
    page = open_page(browser, app)
    megabyte = "長い文章です。" * 50_000  # 21 bytes each
    page.locator("#variable-1 textarea").evaluate("(box, text) => { box.value = text; box.dispatchEvent(new Event('input')); }", megabyte)
    page.click("#run")
    expect(page.locator("#facts-0")).to_contain_text("上限2048トークン", timeout=120_000)
    page.locator("#variable-1 textarea").fill("短い文章です。")
    page.click("#run")
    expect(page.locator("#facts-0")).to_contain_text("合計", timeout=120_000)
    page.context.close()


def test_a_dead_endpoint_fails_in_its_pane_only(browser: Browser, app: RunningApp) -> None:
    page = open_page(browser, app)
    name = f"dead-{randrange(10**6)}"
    add_endpoint(page, name, "http://127.0.0.1:9/v1")
    choose(page, "#model-1", name)
    page.click("#run")
    expect(page.locator("#facts-1")).to_contain_text("サーバーが正しく応答しませんでした", timeout=60_000)
    expect(page.locator("#facts-0")).to_contain_text("合計", timeout=120_000)
    page.context.close()


def test_follow_up_retry_save_and_open_from_history(browser: Browser, app: RunningApp) -> None:
    page = open_page(browser, app)
    wish = f"敬語で答えてください。{new_id()[-4:]}"  # of its own each time: a version that was saved with it makes it the prompt's own
    warmth = round(1 + randrange(1, 19) * 0.05, 2)  # of its own each time: saving what a version already holds makes no new one
    page.click("#run")
    expect(page.locator("#facts-0")).to_contain_text("合計", timeout=120_000)
    page.locator("#message textarea, #message input").fill("もっと短くしてください。")
    page.click("#send")
    expect(page.locator("#chat-0 .user")).to_have_count(2)
    expect(page.locator("#facts-0")).to_contain_text("合計", timeout=120_000)
    expect(page.locator("#facts-1")).to_contain_text("合計", timeout=120_000)
    before = find_runs(app, 0)
    page.click("#retry-0")
    again = find_runs(app, len(before) + 1)
    assert len(again) == len(before) + 1 and again[0].messages[-1].content == "もっと短くしてください。"
    page.locator("#code-drawer > button").click()
    expect(page.locator("#code")).to_contain_text("kit.playground.run(")
    page.reload()
    page.wait_for_selector("#variable-1 textarea")
    set_number(page, 1, "温度", str(warmth))
    page.locator("#more > button").click()
    page.locator("#system textarea").fill(wish)
    page.click("#run")
    expect(page.locator("#facts-1")).to_contain_text("合計", timeout=120_000)
    page.click("#save-1")
    page.locator("#save-message textarea, #save-message input").fill("温度を上げた")
    page.click("#save-version")
    expect(page.get_by_text(re.compile(r"バージョン\d+として保存"))).to_be_visible()
    page.locator("#prompt-version input").click()
    expect(page.get_by_role("option", name="2", exact=True)).to_be_visible()
    page.keyboard.press("Escape")
    warm = next(run for run in find_runs(app, 0) if run.params.get("temperature") == warmth)
    assert any(wish in message.content for message in warm.messages), warm.messages
    page.locator("#system textarea").fill("")
    page.get_by_role("tab", name="履歴").click()
    page.locator("#history-table").get_by_role("gridcell", name=warm.id).first.click()
    expect(page.locator("#history-chosen textarea, #history-chosen input")).to_have_value(warm.id)
    page.locator("#history-pane").get_by_label("3").check()
    page.click("#history-open")
    expect(page.locator("#chat-2 .bot").first).to_be_visible()
    expect(page.locator("#pane-count").get_by_label("3")).to_be_checked()
    expect(page.locator("#system textarea")).to_have_value(wish)
    page.locator("#settings-2 > button").click()
    expect(page.locator("#settings-2").get_by_label("温度").first).to_have_value(str(warmth))
    page.context.close()


def add_endpoint(page: Page, name: str, address: str) -> None:
    """Add a model server in the model panel."""
    page.click("#open-models")
    page.locator("#models-add-id input, #models-add-id textarea").fill(name)
    page.locator("#models-add-url input, #models-add-url textarea").fill(address)
    page.click("#models-add")
    expect(page.locator("#models-choose input")).to_have_value(name)
    page.click("#open-models")


def choose(page: Page, field: str, option: str) -> None:
    """Choose an option of a dropdown."""
    page.locator(f"{field} input").click()
    page.locator(f"{field} input").fill(option)
    page.get_by_role("option", name=option).first.click()

"""Fine-tuning in a real Chromium: from the tab in Japanese to a duel against the base, through a reload; cancel and go on; own files; a phone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from llmops_kit.types import new_id
from tests.app_process import RunningApp
from tests.browser.conftest import open_page, open_tab

pytestmark = pytest.mark.browser
LONG_MS = 600_000
"""Training of a few steps on a busy machine."""


def open_tuning(browser: Browser, app: RunningApp, **size: int) -> Page:
    page = open_page(browser, app, **size)
    open_tab(page, "nouns", "tuning", "ファインチューニング")
    return page


def unfold(page: Page, id: str) -> None:
    page.locator(f"#{id} > button, #{id} .label-wrap").first.click()


def set_field(page: Page, id: str, value: str) -> None:
    field = page.locator(f"#{id} input, #{id} textarea").first
    field.fill(value)
    field.press("Tab")


def launch(page: Page, steps: int) -> str:
    """Start the bundled set with few steps, under a name that no run before it took; the name."""
    name = f"run-{new_id()[-6:]}"
    expect(page.locator("#tuning-report")).to_contain_text("30行中30行", timeout=90_000)
    expect(page.locator("#tuning-preview")).to_contain_text("損失")
    expect(page.locator("#tuning-start")).to_be_enabled()
    unfold(page, "tuning-more")
    set_field(page, "tuning-name", name)
    set_field(page, "tuning-epochs", "20")
    set_field(page, "tuning-max-steps", str(steps))
    set_field(page, "tuning-eval-every", str(max(1, steps // 3)))
    expect(page.locator("#tuning-estimate")).to_contain_text(f"{steps}ステップ")
    page.click("#tuning-start")
    expect(page.locator("#tuning-card")).to_contain_text(name)
    return name


def test_a_run_is_launched_left_found_again_and_compared_with_its_base(browser: Browser, app: RunningApp) -> None:
    page = open_tuning(browser, app)
    name = launch(page, 36)
    expect(page.locator("#tuning-progress")).to_contain_text(re.compile(r"36ステップ中\d"), timeout=LONG_MS)
    other = open_tuning(browser, app)
    open_tab(other, "tuning-tabs", "jobs", "ジョブ")
    expect(other.locator("#tuning-no-job")).to_contain_text("ジョブはまだありません")
    other.context.close()
    page.reload()
    page.wait_for_selector("#variable-1 textarea, #variable-0 textarea")
    expect(page.locator("#bell")).to_contain_text(re.compile("学習中|ジョブ"))
    open_tab(page, "nouns", "tuning", "ファインチューニング")
    open_tab(page, "tuning-tabs", "jobs", "ジョブ")
    expect(page.locator("#tuning-card")).to_contain_text(name)
    expect(page.locator("#tuning-card")).to_contain_text("完了", timeout=LONG_MS)
    expect(page.locator("#tuning-curve .dot")).to_have_count(4)  # the base, and after 12, 24 and 36 steps
    expect(page.locator("#tuning-samples .pair").first).to_contain_text("学習前")
    expect(page.locator("#tuning-samples .pair").first).to_contain_text("ステップ36の後")
    expect(page.locator("#tuning-facts")).to_contain_text(f"starter-lm+{name}")
    expect(page.locator("#tuning-facts")).to_contain_text("見積もり")
    page.click("#tuning-compare")
    expect(page.locator("#tuning-adapter-card")).to_contain_text(f"starter-lm+{name}")
    expect(page.locator("#tuning-deltas table")).to_be_visible(timeout=LONG_MS)
    page.click("#tuning-duel")
    expect(page.locator("#duel-pair .answer")).to_have_count(2)
    page.click("#duel-a")
    expect(page.locator("#duel-pair")).to_contain_text(f"starter-lm+{name}")
    open_tab(page, "nouns", "tuning", "ファインチューニング")
    open_tab(page, "tuning-tabs", "adapters", "アダプター")
    page.click("#tuning-adapter-try")
    expect(page.locator("#model-1 input")).to_have_value(f"starter-lm+{name}")
    expect(page.locator("#model-0 input")).to_have_value("starter-lm")
    expect(page.locator("#message textarea")).not_to_have_value("")
    page.click("#send")
    expect(page.locator("#facts-1")).to_contain_text("合計", timeout=LONG_MS)
    page.context.close()


def test_an_adapter_is_packed_and_taken_home(browser: Browser, app: RunningApp) -> None:
    page = open_tuning(browser, app)
    name = launch(page, 3)
    expect(page.locator("#tuning-card")).to_contain_text("完了", timeout=LONG_MS)
    page.click("#tuning-look")
    page.click("#tuning-export")
    expect(page.locator("#tuning-compare-progress")).to_contain_text(f"starter-lm_{name}.zip", timeout=90_000)
    with page.expect_download() as download:
        page.click("#tuning-download")
    assert Path(download.value.path()).read_bytes().startswith(b"PK")
    page.context.close()


def test_a_run_is_cancelled_and_goes_on_from_where_it_stopped(browser: Browser, app: RunningApp) -> None:
    page = open_tuning(browser, app)
    launch(page, 15)
    expect(page.locator("#tuning-progress")).to_contain_text(re.compile(r"15ステップ中[2-9]"), timeout=LONG_MS)
    page.click("#tuning-cancel")
    expect(page.locator("#tuning-card")).to_contain_text("キャンセル済み", timeout=LONG_MS)
    expect(page.locator("#tuning-cancel")).to_be_hidden()
    page.click("#tuning-resume")
    expect(page.locator("#tuning-card")).to_contain_text("2回目の実行", timeout=LONG_MS)
    expect(page.locator("#tuning-card")).to_contain_text("完了", timeout=LONG_MS)
    page.context.close()


def test_a_shift_jis_table_is_asked_about_and_wrong_rows_are_named(browser: Browser, app: RunningApp, tmp_path: Path) -> None:
    table = tmp_path / "社内の返信.csv"
    rows = [f"用件{n}についてお願いします,承知しました。{n}番ですね。" for n in range(12)]
    table.write_bytes("\r\n".join(["甲,乙", *rows, "空です,"]).encode("cp932"))
    page = open_tuning(browser, app)
    expect(page.locator("#tuning-report")).to_contain_text("30行中30行", timeout=90_000)
    page.locator("#tuning-source").get_by_text("自分のファイル").click()
    expect(page.locator("#tuning-report")).to_contain_text("ファイルを選んでください")
    expect(page.locator("#tuning-start")).to_be_disabled()
    page.locator("#tuning-file input[type=file]").set_input_files(str(table))
    expect(page.locator("#tuning-report")).to_contain_text("列の対応")
    for role, column in (("prompt", "甲"), ("answer", "乙")):
        page.locator(f"#tuning-column-{role} input").click()
        page.locator(f"#tuning-column-{role}").get_by_role("option", name=column).click()
    page.click("#tuning-columns-use")
    expect(page.locator("#tuning-report")).to_contain_text("13行中12行")
    page.locator("#tuning-report summary").click()
    expect(page.locator("#tuning-report .rows")).to_contain_text("14")
    expect(page.locator("#tuning-preview")).to_contain_text("承知")
    expect(page.locator("#tuning-start")).to_be_enabled()
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n", encoding="utf-8")
    page.locator("#tuning-file button[aria-label]").first.click()
    page.locator("#tuning-file input[type=file]").set_input_files(str(bad))
    expect(page.locator("#tuning-report .alarm")).to_be_visible()
    expect(page.locator("#tuning-start")).to_be_disabled()
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_hangs_over_and_start_is_in_reach(browser: Browser, app: RunningApp, scheme: str) -> None:
    page = browser.new_context(locale="ja-JP", viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True).new_page()  # type: ignore[arg-type]
    page.goto(app.url)
    page.wait_for_selector("#variable-1 textarea, #variable-0 textarea", timeout=90_000)
    open_tab(page, "nouns", "tuning", "ファインチューニング")
    expect(page.locator("#tuning-report")).to_contain_text("30行中30行", timeout=90_000)
    expect(page.locator("#tuning-start")).to_be_enabled()
    box = page.locator("#tuning-start").bounding_box()
    assert box is not None and box["height"] >= 44 and box["y"] + box["height"] <= 844
    for id, name in (("start", "学習を始める"), ("jobs", "ジョブ"), ("adapters", "アダプター"), ("scratch", "ゼロから学習")):
        open_tab(page, "tuning-tabs", id, name)
        page.wait_for_timeout(1500)
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 1, f"{name} hangs over by {overflow} px"
    page.click("#bell")
    expect(page.locator("#bell-panel")).to_contain_text("ジョブはまだありません")
    page.context.close()


def test_the_tab_is_used_with_keys_alone(browser: Browser, app: RunningApp) -> None:
    page = open_tuning(browser, app)
    expect(page.locator("#tuning-start")).to_be_enabled(timeout=90_000)
    unfold(page, "tuning-yaml-title")
    page.locator("#tuning-preset input").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.locator("#tuning-yaml")).to_contain_text("preset: careful")
    named = page.evaluate(
        """() => [...document.querySelectorAll('#tuning-tabs input, #tuning-tabs textarea, #tuning-tabs button')]
        .filter(each => each.offsetParent !== null && !each.closest('.cm-editor'))
        .filter(each => !(each.textContent.trim() || each.getAttribute('aria-label') || each.labels?.length || each.closest('label') || each.title))
        .map(each => each.outerHTML.slice(0, 120))"""
    )
    assert named == []
    page.context.close()

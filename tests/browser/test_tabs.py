"""Many rows, versions, the model panel, the phone and the dark: the rest of the first tab, in a real Chromium."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.app_process import RunningApp
from tests.browser.conftest import open_page

pytestmark = pytest.mark.browser


def test_a_shift_jis_table_is_previewed_mapped_run_and_taken_home(browser: Browser, app: RunningApp, tmp_path: Path) -> None:
    rows = tmp_path / "会議メモ.csv"
    rows.write_bytes('番号,本文\n１,会議は3時に始まります。\n２,=HYPERLINK("http://x")の件です。\n'.encode("cp932"))
    page = open_page(browser, app)
    page.get_by_role("tab", name="まとめて実行").click()
    expect(page.locator("#batch-prompts")).to_contain_text("要約")
    page.locator("#batch-file input[type=file]").set_input_files(str(rows))
    expect(page.locator("#batch-preview")).to_contain_text("会議は3時に始まります。")
    expect(page.locator("#batch-about")).to_contain_text("cp932")
    column = page.locator("#batch-column-1 input")
    column.click()
    page.get_by_role("option", name="本文").first.click()
    page.click("#batch-run")
    expect(page.locator("#batch-progress")).to_contain_text("2件中2件の回答", timeout=180_000)
    with page.expect_download() as download:
        page.click("#batch-csv")
    text = Path(download.value.path()).read_bytes()
    assert text.startswith(b"\xef\xbb\xbf")
    table = list(csv.DictReader(io.StringIO(text.decode("utf-8-sig"))))
    assert [row["row"] for row in table] == ["0", "1"]
    assert not any(value.startswith(("=", "+", "@")) for row in table for value in row.values())
    page.context.close()


def test_a_file_that_is_no_table_is_one_sentence(browser: Browser, app: RunningApp, tmp_path: Path) -> None:
    broken = tmp_path / "broken.xlsx"
    broken.write_bytes(b"PK\x03\x04 not a workbook")
    page = open_page(browser, app)
    page.get_by_role("tab", name="まとめて実行").click()
    expect(page.locator("#batch-prompts")).to_contain_text("要約")
    page.locator("#batch-file input[type=file]").set_input_files(str(broken))
    expect(page.get_by_text("broken.xlsx」を読めませんでした")).to_be_visible()
    assert "Traceback" not in page.content()
    page.context.close()


def test_a_new_version_shows_one_changed_character_and_the_label_moves(browser: Browser, app: RunningApp) -> None:
    page = open_page(browser, app)
    page.get_by_role("tab", name="バージョン").click()
    text = page.locator("#versions-text textarea")
    expect(text).to_have_value(lambda_has("summarize"))
    text.fill(text.input_value().replace("default: 次の文章を3文以内", "default: 次の文章を2文以内").replace("  - 次の文章を3文以内", "  - 次の文章を2文以内"))
    page.locator("#versions-message textarea, #versions-message input").fill("2文に短く")
    page.click("#versions-save")
    difference = page.locator("#versions-diff")
    expect(difference.locator("ins").first).to_be_visible()
    changed = {kind: set(difference.locator(kind).all_inner_texts()) for kind in ("del", "ins")}
    assert changed == {"del": {"3"}, "ins": {"2"}}
    page.click("#versions-save")
    expect(page.get_by_text("変更はありません")).to_be_visible()
    page.locator("#versions-label input").fill("")
    page.locator("#versions-label input").press("Tab")
    page.click("#versions-move")
    expect(page.get_by_text("先にラベルを選ぶか")).to_be_visible()
    page.locator("#versions-label input").fill("production")
    page.locator("#versions-label input").press("Tab")
    page.click("#versions-move")
    expect(page.get_by_text("に移しました")).to_be_visible()
    page.context.close()


def lambda_has(text: str):
    """A pattern for `to_have_value`."""
    import re

    return re.compile(text)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_hangs_over_and_run_is_in_reach(browser: Browser, app: RunningApp, scheme: str) -> None:
    page = browser.new_context(locale="ja-JP", viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True).new_page()  # type: ignore[arg-type]
    page.goto(app.url)
    page.wait_for_selector("#variable-1 textarea", timeout=90_000)
    for tab in ("試す", "まとめて実行", "履歴", "バージョン"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(1500)
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 1, f"{tab} hangs over by {overflow} px"
    page.get_by_role("tab", name="試す").click()
    box = page.locator("#run").bounding_box()
    assert box is not None and box["height"] >= 40 and box["y"] + box["height"] <= 844
    page.context.close()


def test_the_models_say_what_they_need_and_a_self_test_runs(browser: Browser, app: RunningApp) -> None:
    page = open_page(browser, app)
    page.click("#open-models")
    table = page.locator("#models-table")
    expect(table).to_contain_text("starter-lm")
    expect(table).to_contain_text("ダウンロードが必要です")
    page.click("#models-check")
    expect(page.locator("#models-progress")).to_contain_text("自己診断に合格", timeout=120_000)
    page.context.close()


def test_the_page_asks_no_other_host_for_anything(browser: Browser, app: RunningApp) -> None:
    page = browser.new_context(locale="en-US").new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(app.url)
    page.wait_for_selector("#run", timeout=90_000)
    page.wait_for_timeout(2000)
    assert asked and [url for url in asked if not url.startswith((app.url, "data:", "blob:"))] == []
    assert "Prompts" in page.content()
    page.context.close()

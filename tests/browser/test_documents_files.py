"""Documents in a real Chromium: files in, the quality report read and acted on, questions answered, work left and found again."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from llmops_kit.store import Store
from llmops_kit.types import Chunk, Document
from tests.app_process import RunningApp
from tests.browser.conftest import open_page

pytestmark = pytest.mark.browser
MANUAL = Path(str(files("llmops_kit.documents") / "samples")) / "加湿器の取扱説明書.pdf"


def open_documents(page: Page) -> None:
    """Go to the tab and wait until it is filled."""
    page.get_by_role("tab", name=re.compile("^(文書に質問|Documents)$")).click()
    expect(page.locator("#documents-about")).to_contain_text(re.compile("文書|ocuments"))


def drop(page: Page, *paths: Path) -> None:
    """Drop files into the drop zone."""
    page.locator("#documents-drop input[type=file]").set_input_files([str(path) for path in paths])


def row(page: Page, name: str) -> Locator:
    """A document's row of the table."""
    return page.locator("#documents-table .virtual-row", has_text=name)


def open_report(page: Page, name: str) -> None:
    """Choose a document, once the table stands still, and wait for its report."""
    expect(page.locator("#documents-cancel")).to_be_hidden()
    row(page, name).get_by_role("gridcell").first.click()
    expect(page.locator("#documents-head")).to_contain_text(name)


def find(app: RunningApp, name: str) -> list[Document]:
    """The documents of this name in the app's store."""
    store = Store(f"sqlite:///{app.workspace / 'kit.sqlite'}")
    try:
        return [each for each in store.find(Document) if each.name == name]
    finally:
        store.close()


def test_three_files_are_read_looked_over_cut_by_a_page_and_indexed(browser: Browser, app: RunningApp, tmp_path: Path) -> None:
    minutes, rules = tmp_path / "議事録（改訂）🙂.txt", tmp_path / "規程.md"
    minutes.write_bytes("会議は3時に始まります。\n次回は来週の火曜日です。\n".encode("cp932"))
    rules.write_text("# 規程\n\n有給休暇は年20日です。\n", encoding="utf-8")
    manual = tmp_path / "加湿器.pdf"
    manual.write_bytes(MANUAL.read_bytes())
    page = open_page(browser, app)
    open_documents(page)
    drop(page, minutes)
    expect(row(page, minutes.name)).to_contain_text("確認待ち", timeout=60_000)
    drop(page, rules, manual)
    for name in (rules.name, manual.name):
        expect(row(page, name)).to_contain_text("確認待ち", timeout=60_000)
    expect(page.locator("#documents-index")).to_contain_text("3件")
    open_report(page, manual.name)
    expect(page.locator("#documents-pages .virtual-row")).to_have_count(3)
    expect(page.locator("#documents-picture img")).to_be_visible()
    page.locator("#documents-pages .virtual-row").nth(1).get_by_role("gridcell").first.click()
    expect(page.locator("#documents-toggle")).to_contain_text("2ページを外す")
    second = page.locator("#documents-text textarea").input_value().strip()
    assert len(second) > 50
    page.click("#documents-toggle")
    expect(page.locator("#documents-pages .virtual-row").nth(1)).to_contain_text("外す")
    expect(page.locator("#documents-toggle")).to_contain_text("2ページを戻す")
    page.click("#documents-index")
    for name in (minutes.name, rules.name, manual.name):
        expect(row(page, name)).to_contain_text("検索できます", timeout=60_000)
    (document,) = find(app, manual.name)
    store = Store(f"sqlite:///{app.workspace / 'kit.sqlite'}")
    pages = {page for (page,) in store.values(Chunk, ("page",), document_id=document.id)}
    store.close()
    assert pages == {1, 3}
    assert find(app, minutes.name)[0].encoding == "cp932"
    page.locator("#documents-code-drawer > button").click()
    expect(page.locator("#documents-code")).to_contain_text("kit.documents.drop_pages(")
    page.context.close()


def test_a_doubtful_encoding_is_asked_and_answered_by_reading(browser: Browser, app: RunningApp, tmp_path: Path) -> None:
    doubtful = tmp_path / "価格.txt"
    doubtful.write_bytes("価格表".encode("euc_jp"))
    page = open_page(browser, app)
    open_documents(page)
    drop(page, doubtful)
    expect(row(page, doubtful.name)).to_contain_text("質問があります", timeout=60_000)
    open_report(page, doubtful.name)
    expect(page.locator("#documents-notes")).to_contain_text("文字コード")
    page.locator("#documents-encoding").get_by_text("価格表").click()
    page.click("#documents-answer")
    expect(row(page, doubtful.name)).to_contain_text("確認待ち", timeout=60_000)
    expect(page.locator("#documents-text textarea")).to_have_value("価格表\n")
    expect(page.locator("#documents-question")).to_be_hidden()
    page.click("#documents-go")
    expect(row(page, doubtful.name)).to_contain_text("検索できます", timeout=60_000)
    page.click("#documents-remove")
    expect(page.locator("#documents-sure")).to_be_visible()
    assert find(app, doubtful.name)
    page.click("#documents-sure")
    expect(page.locator("#documents-report")).to_be_hidden()
    expect(row(page, doubtful.name)).to_have_count(0)
    assert not find(app, doubtful.name)
    page.context.close()


def test_what_cannot_be_read_is_said_in_words_and_names_are_never_markup(browser: Browser, app: RunningApp, tmp_path: Path) -> None:
    broken, old = tmp_path / "壊れた.pdf", tmp_path / "古い.doc"
    broken.write_bytes(b"%PDF-1.4 nothing")
    old.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600 + "WordDocument".encode("utf-16-le"))
    hostile = tmp_path / "<img src=x onerror=alert(1)>.txt"
    hostile.write_text("<script>alert(2)</script> 本文です。", encoding="utf-8")
    page = open_page(browser, app)
    opened: list[str] = []
    page.on("dialog", lambda dialog: (opened.append(dialog.message), dialog.dismiss()))
    open_documents(page)
    drop(page, broken, old, hostile)
    expect(row(page, broken.name)).to_contain_text("ファイルが壊れています", timeout=60_000)
    expect(row(page, old.name)).to_contain_text("古い形式")
    expect(page.locator("#documents-table .virtual-row").last).to_contain_text(hostile.name)  # what needs the person comes first
    open_report(page, hostile.name)
    expect(page.locator("#documents-text textarea")).to_have_value(re.compile("script"))
    drop(page, hostile)
    expect(page.locator("#documents-left")).to_contain_text("変更なし", timeout=60_000)
    assert page.locator("#documents-report img[src=x], #documents-left img, #documents-table img").count() == 0
    assert opened == [] and "Traceback" not in page.content()
    page.context.close()


def test_work_goes_on_when_the_page_is_closed_and_is_found_again_by_its_person_only(browser: Browser, app: RunningApp, tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"手順{number:02}.txt").write_text(f"手順{number}の内容です。\n" * 50, encoding="utf-8")
    page = open_page(browser, app)
    open_documents(page)
    drop(page, *sorted(tmp_path.iterdir()))
    expect(page.locator("#documents-progress")).to_contain_text("40件", timeout=60_000)
    context = page.context
    page.close()
    stranger = open_page(browser, app)
    open_documents(stranger)
    expect(stranger.locator("#documents-about")).not_to_contain_text("40件")
    assert "手順" not in stranger.content()
    stranger.context.close()
    again = context.new_page()
    again.goto(app.url)
    again.wait_for_selector("#variable-1 textarea, #variable-0 textarea")
    open_documents(again)
    expect(again.locator("#documents-progress")).to_contain_text("確認待ち40件", timeout=120_000)
    expect(again.locator("#documents-about")).to_contain_text("文書40件")
    again.click("#documents-index")
    expect(again.locator("#documents-progress")).to_contain_text("検索できる文書40件", timeout=180_000)
    context.close()


def test_in_english_on_a_phone_nothing_hangs_over_and_the_samples_are_a_thumb_away(browser: Browser, app: RunningApp) -> None:
    page = open_page(browser, app, locale="en-US", width=390, height=844)
    open_documents(page)
    expect(page.locator("#documents-about")).to_contain_text("Drop documents")
    page.click("#documents-sample")
    expect(page.locator("#documents-index")).to_contain_text("Index as they are", timeout=60_000)
    box = page.locator("#documents-index").bounding_box()
    assert box is not None and box["height"] >= 44 and box["width"] > 300
    open_report(page, MANUAL.name)
    expect(page.locator("#documents-picture img")).to_be_visible()
    for fold in ("#documents-more", "#documents-manage", "#documents-report-more"):
        page.locator(f"{fold} > button").click()
    page.wait_for_timeout(1000)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 1
    assert re.search(r"[\u3040-\u30ff]", page.locator("#documents-report-more").inner_text()) is None
    page.context.close()


def test_a_collection_is_made_shared_and_read_by_somebody_else_who_may_not_change_it(browser: Browser, app: RunningApp, tmp_path: Path) -> None:
    note = tmp_path / "共有メモ.txt"
    note.write_text("共有する内容です。\n", encoding="utf-8")
    page, reader = open_page(browser, app), open_page(browser, app)
    open_documents(page)
    page.locator("#documents-manage > button").click()
    page.locator("#documents-new-name input, #documents-new-name textarea").fill("研修")
    page.click("#documents-make")
    expect(page.locator("#documents-collection input")).to_have_value("研修（0件）")
    drop(page, note)
    expect(row(page, note.name)).to_contain_text("確認待ち", timeout=60_000)
    page.locator("#documents-share input").check()
    expect(page.locator("#documents-collection input")).to_have_value(re.compile("研修.*共有"))
    open_documents(reader)
    reader.locator("#documents-collection input").click()
    reader.get_by_role("option", name=re.compile("研修")).first.click()
    expect(row(reader, note.name)).to_be_visible()
    open_report(reader, note.name)
    for control in ("#documents-index", "#documents-go", "#documents-remove", "#documents-report-more"):
        expect(reader.locator(control)).to_be_hidden()
    page.locator("#documents-share input").uncheck()
    expect(page.locator("#documents-collection input")).to_have_value("研修（1件）")
    page.click("#documents-remove-collection")
    page.click("#documents-sure-collection")
    expect(page.locator("#documents-collection input")).not_to_have_value(re.compile("研修"))
    assert not find(app, note.name)
    page.context.close()
    reader.context.close()

"""Collecting ratings in a real Chromium: two raters finish a campaign, keys alone do, what they wrote reaches files and W&B, nothing is lost silently."""

from __future__ import annotations

import csv
import io
import re
import sqlite3
from collections import Counter
from itertools import permutations
from pathlib import Path

import openpyxl
import pytest
from playwright.sync_api import Browser, Page, expect

from llmops_kit.tracking import read_table
from tests.app_process import RunningApp
from tests.browser.conftest import open_page, open_tab

pytestmark = pytest.mark.browser
ITEMS = 5
COMMENTS = ("敬語が自然です。👍🏽", "=1+1 という式ではじまる指摘「要確認」", "改行も\n残る👨‍👩‍👧", "𠮷野家の𠮷、はし髙", "")
FIRST, SECOND = (5, 4, 2, 1, 3), (5, 3, 2, 2, 3)
RATER = re.compile("rater-[0-9a-f]{8}")


def ordinal_alpha(pairs: list[tuple[int, int]]) -> float:
    """Krippendorff's α for ordinal data of two raters without gaps, from its coincidence matrix (Krippendorff 2011, Computing Alpha-Reliability)."""
    coincidences = Counter(pair for one, other in pairs for pair in permutations((one, other)))
    totals = Counter(value for pair in pairs for value in pair)
    n = sum(totals.values())

    def distance(low: int, high: int) -> float:
        low, high = sorted((low, high))
        between = sum(totals[value] for value in range(low, high + 1))
        return (between - (totals[low] + totals[high]) / 2) ** 2

    observed = sum(count * distance(*pair) for pair, count in coincidences.items() if pair[0] != pair[1])
    expected = sum(totals[one] * totals[other] * distance(one, other) for one, other in permutations(totals, 2))
    return 1 - (n - 1) * observed / expected


def open_part(page: Page, name: str) -> None:
    page.locator("#feedback-tabs").get_by_role("tab", name=name, exact=True).click()


def open_feedback(browser: Browser, app: RunningApp, **size: int) -> Page:
    page = open_page(browser, app, **size)
    open_tab(page, "nouns", "feedback", "フィードバック")
    return page


def make_campaign(page: Page, name: str, file: Path, *, preset: str | None = "総合の評価（1–5）") -> str:
    """Make a campaign over a file by the form of the Campaigns sub-tab, and give the address for raters."""
    open_part(page, "キャンペーン")
    page.locator("#campaign-name textarea, #campaign-name input").fill(name)
    page.locator("#campaign-source").get_by_text("ファイル", exact=True).click()
    page.locator("#campaign-file input[type=file]").set_input_files(str(file))
    expect(page.locator("#campaign-file")).to_contain_text(re.compile(rf"{file.stem}\s*{file.suffix}"))  # the name, then, once it is there, its two parts
    if preset is not None:
        page.locator("#campaign-preset input").click()
        page.get_by_role("option", name=preset).click()
    page.click("#campaign-make")
    expect(page.locator("#campaign-detail h4")).to_have_text(name)
    return page.locator("#campaign-detail .invite code").inner_text()


def answers(folder: Path) -> Path:
    """A table as people bring it: Shift_JIS, from a spreadsheet."""
    file = folder / "回答集.csv"
    rows = [f"q{number},質問{number}：有給休暇は何日ですか。,回答{number}番：{number + 9}日です。" for number in range(ITEMS)]
    file.write_bytes(("\r\n".join(["item,prompt,answer", *rows]) + "\r\n").encode("cp932"))
    return file


def number_shown(page: Page) -> int:
    """Which of the answers is on the page."""
    said = page.locator("#feedback-task .said")
    expect(said).to_have_count(1)  # an earlier test's pair may still be there for a moment
    expect(said).to_be_visible()
    found = re.search(r"回答(\d)番", said.inner_text())
    assert found is not None
    return int(found[1])


def expect_progress(page: Page, own: int) -> None:
    expect(page.locator("#feedback-progress")).to_contain_text(re.compile(rf"あなた {own}/"))


def rate_all(page: Page, scores: tuple[int, ...], comments: tuple[str, ...]) -> None:
    """Rate what is left with the mouse and the text box, as the numbers of the answers say."""
    for done in range(ITEMS):
        number = number_shown(page)
        page.locator(f"#feedback-form input[value='{scores[number]}']").check()
        page.locator("#feedback-comment").fill(comments[number])
        page.click("#feedback-submit")
        expect_progress(page, done + 1)
        expect(page.locator("#feedback-note")).to_contain_text("保存しました")
        expect(page.locator("#feedback-form input:checked")).to_have_count(0)
    expect(page.locator("#feedback-task")).to_contain_text("すべて評価しました")


def download(page: Page, kind: str) -> bytes:
    page.locator("#export-format").get_by_text(kind, exact=True).click()
    page.click("#export-write")
    expect(page.locator("#export-told")).to_contain_text(f".{kind.lower()}に{2 * ITEMS}行を書き出しました")
    with page.expect_download() as started:
        page.click("#export-file")
    return Path(started.value.path()).read_bytes()


def test_two_raters_finish_a_campaign_and_all_they_said_arrives(browser: Browser, app: RunningApp, tmp_path: Path) -> None:
    owner, rater = open_feedback(browser, app), open_page(browser, app)
    link = make_campaign(owner, "回答の確認", answers(tmp_path))
    rater.goto(link)  # what the owner sends round: it opens the tab at this campaign by itself
    expect(rater.locator("#feedback-campaign input")).to_have_value("回答の確認")
    owner.click("#campaign-go")
    rate_all(owner, FIRST, COMMENTS)
    open_part(rater, "一致度")
    expect(rater.locator("#agreement-figures")).to_contain_text("先に見ると")
    open_part(rater, "評価する")
    rate_all(rater, SECOND, tuple(reversed(COMMENTS)))
    expect(rater.locator("#feedback-progress")).to_contain_text("全体 10/10")
    expected = ordinal_alpha(list(zip(FIRST, SECOND, strict=True)))
    for page in (owner, rater):
        open_part(page, "一致度")
        expect(page.locator("#agreement-figures .figure", has_text="Krippendorff α").locator("b")).to_have_text(f"{expected:.2f}")
        expect(page.locator("#agreement-figures .figure", has_text="単純一致率").locator("b")).to_have_text("60%")
        expect(page.locator("#agreement-figures tr.mine")).to_have_count(1)
        expect(page.locator("#agreement-figures .verdict")).to_contain_text("Krippendorff")
        expect(page.locator("#agreement-board .split")).to_have_count(2)
    open_part(owner, "書き出し")
    rows = list(csv.DictReader(io.StringIO(download(owner, "CSV").decode("utf-8-sig"))))
    assert Counter(row["comment"].lstrip("'") for row in rows) == Counter(comment for comment in COMMENTS for _ in range(2))
    assert not any(row["comment"].startswith("=") for row in rows) and all(RATER.fullmatch(row["rater"]) for row in rows)
    sheet = openpyxl.load_workbook(io.BytesIO(download(owner, "XLSX"))).active
    assert sheet is not None
    head, *cells = sheet.iter_rows(values_only=True)
    written = [str(row[head.index("comment")] or "").lstrip("'") for row in cells]
    assert Counter(written) == Counter(comment for comment in COMMENTS for _ in range(2))
    owner.click("#export-sync")
    expect(owner.locator("#export-wandb")).to_contain_text("最新です", timeout=120_000)
    table = read_table(app.workspace, "feedback")
    assert set(COMMENTS) - {""} <= set(table.comment.dropna()) and all(RATER.fullmatch(name) for name in table.rater_id)
    open_part(owner, "キャンペーン")
    owner.click("#campaign-close")
    owner.click("#campaign-sure")
    expect(owner.locator("#campaign-detail")).to_contain_text(re.compile(r"feedback-\S+:v1（10行）"))
    owner.context.close()
    rater.context.close()


def test_keys_alone_rate_from_the_opening_of_the_page(browser: Browser, app: RunningApp, tmp_path: Path) -> None:
    owner = open_feedback(browser, app)
    make_campaign(owner, "キーボード", answers(tmp_path), preset="正確さ・自然さ・役立ち度（1–5）、有害さ")
    owner.context.close()
    page = open_page(browser, app)
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == "フィードバック":
            break
    page.keyboard.press("Enter")
    expect(page.locator("#feedback-campaign input")).to_have_value("キーボード")
    for done in range(ITEMS):
        expect(page.locator("#feedback-form .criterion input:checked")).to_have_count(0)
        for key in ("4", "５", "3", "n"):
            page.keyboard.press(key) if key.isascii() else page.evaluate(PRESS, key)
        expect(page.locator("#feedback-form .criterion input:checked")).to_have_count(4)
        if done == 1:
            page.keyboard.press("Tab")
            page.keyboard.type("s p 1 2 3 y はこのまま文字です")
            page.keyboard.press("Control+Enter")
        else:
            page.keyboard.press("Enter")
        expect_progress(page, done + 1)
    page.keyboard.press("p")
    expect(page.locator("#feedback-note")).to_contain_text("評価済み")
    chosen = page.locator("#feedback-form .criterion input:checked")
    assert [each.get_attribute("value") for each in chosen.all()] == ["4", "5", "3", "false"]
    connection = sqlite3.connect(app.workspace / "kit.sqlite")
    said = connection.execute("SELECT comment, COUNT(*) FROM feedback WHERE rubric = 'quality' GROUP BY comment ORDER BY comment").fetchall()
    connection.close()
    assert said == [("", ITEMS - 1), ("s p 1 2 3 y はこのまま文字です", 1)]
    page.context.close()


PRESS = "key => document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}))"


def test_composing_skipping_and_pairs_by_key(browser: Browser, app: RunningApp, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("item,prompt,answer_a,answer_b\n1,問い1,甲,乙\n2,問い2,丙,丁\n3,問い3,戊,己\n", encoding="utf-8")
    page = open_feedback(browser, app)
    open_part(page, "キャンペーン")
    page.locator("#campaign-kind").get_by_text("2つを比べる").click()
    make_campaign(page, "組", pairs, preset=None)
    page.click("#campaign-go")
    expect(page.locator("#feedback-task .answer")).to_have_count(2)
    page.locator("#feedback-task .asked").focus()
    page.evaluate("document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft', isComposing: true, bubbles: true}))")
    expect_progress(page, 0)
    page.keyboard.press("ArrowLeft")
    expect_progress(page, 1)
    page.keyboard.press("ArrowDown")
    expect_progress(page, 2)
    page.keyboard.press("s")
    expect(page.locator("#feedback-reason textarea, #feedback-reason input")).to_be_focused()
    page.keyboard.type("専門外です")
    page.keyboard.press("Enter")
    expect(page.locator("#feedback-note")).to_contain_text("スキップしました")
    connection = sqlite3.connect(app.workspace / "kit.sqlite")
    assert sorted(connection.execute("SELECT choice FROM votes").fetchall()) == [("A",), ("both_bad",)]
    assert connection.execute("SELECT skipped FROM feedback WHERE skipped IS NOT NULL").fetchall() == [("専門外です",)]
    connection.close()
    page.context.close()


def test_the_board_for_the_wall_follows_by_itself(browser: Browser, app: RunningApp, tmp_path: Path) -> None:
    owner, rater = open_feedback(browser, app), open_page(browser, app)
    rater.goto(make_campaign(owner, "壁", answers(tmp_path)))
    owner.click("#campaign-go")
    number = number_shown(owner)
    owner.locator("#feedback-form input[value='1']").check()
    owner.click("#feedback-submit")
    expect_progress(owner, 1)
    open_part(owner, "一致度")
    owner.locator("#agreement-wall input").check()
    expect(owner.locator("#agreement-figures .wall")).to_be_visible()
    expect(owner.locator("#agreement-board .split")).to_have_count(0)
    assert number_shown(rater) == number  # what somebody has rated comes first, so that there is overlap early
    rater.locator("#feedback-form input[value='5']").check()
    rater.click("#feedback-submit")
    expect_progress(rater, 1)
    expect(owner.locator("#agreement-board.wall .split, #agreement-board .wall .split")).to_have_count(1)
    expect(owner.locator("#agreement-board .said")).to_have_text(f"回答{number}番：{number + 9}日です。")
    for page in (owner, rater):
        page.context.close()


def test_what_is_not_saved_is_said_and_kept_and_a_reload_loses_no_draft(browser: Browser, app: RunningApp, tmp_path: Path) -> None:
    page = open_feedback(browser, app)
    make_campaign(page, "保存の確認", answers(tmp_path))
    page.click("#campaign-go")
    number_shown(page)
    page.locator("#feedback-form input[value='2']").check()
    page.locator("#feedback-comment").fill("消えないで🙏")
    page.reload()
    page.wait_for_selector("#variable-1 textarea")
    page.get_by_role("tab", name="フィードバック").click()
    expect(page.locator("#feedback-campaign input")).to_have_value("保存の確認")
    expect(page.locator("#feedback-comment")).to_have_value("消えないで🙏")
    expect(page.locator("#feedback-form input:checked")).to_have_value("2")
    other = sqlite3.connect(app.workspace / "kit.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # somebody else has the file: the store waits a while, then gives up
    page.click("#feedback-submit")
    expect(page.locator("#feedback-note [role=alert]")).to_contain_text("保存されていません", timeout=60_000)
    expect(page.locator("#feedback-comment")).to_have_value("消えないで🙏")
    expect_progress(page, 0)
    other.execute("ROLLBACK")
    page.dblclick("#feedback-submit")
    expect_progress(page, 1)
    assert other.execute("SELECT comment FROM feedback WHERE comment LIKE '消えないで%'").fetchall() == [("消えないで🙏",)]
    other.close()
    page.context.close()


def test_a_hostile_answer_guideline_and_name_stay_text(browser: Browser, app: RunningApp, tmp_path: Path) -> None:
    hostile = "<img src=http://203.0.113.7/a.png onerror=window.pwned=1><script>window.pwned=1</script>${window.pwned=1}{{x}}"
    file = tmp_path / "hostile.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([("prompt", "answer"), (hostile, hostile)])
    page = open_feedback(browser, app)
    foreign: list[str] = []
    page.on("request", lambda request: foreign.append(request.url) if not request.url.startswith((app.url, "data:", "blob:")) else None)
    open_part(page, "キャンペーン")
    page.locator("#campaign-guidelines textarea").fill(f"**手引き** ![絵](http://203.0.113.7/b.png) {hostile}")
    make_campaign(page, f"悪い{hostile}", file)
    page.click("#campaign-go")
    expect(page.locator("#feedback-task .said")).to_contain_text("<script>window.pwned=1</script>${window.pwned=1}{{x}}")
    page.locator("#feedback-guide > button").click()
    expect(page.locator("#feedback-guidelines strong")).to_have_text("手引き")
    page.locator("#feedback-comment").fill(hostile)
    page.locator("#feedback-form input[value='2']").check()
    page.click("#feedback-submit")
    expect(page.locator("#feedback-note")).to_contain_text("保存しました")
    for tab in ("キャンペーン", "一致度", "書き出し"):
        open_part(page, tab)
        page.wait_for_timeout(1500)
    assert foreign == [] and page.evaluate("window.pwned") is None
    page.context.close()


def test_everything_fits_a_phone(browser: Browser, app: RunningApp) -> None:
    page = open_feedback(browser, app, width=390, height=844)
    said, sample = page.locator("#feedback-task .said").first, page.locator("#feedback-sample")
    expect(said.or_(sample).first).to_be_visible()
    if sample.is_visible():  # where no test before left a campaign open
        sample.click()
    expect(said).to_be_visible()
    for tab in ("評価する", "キャンペーン", "一致度", "書き出し"):
        open_part(page, tab)
        page.wait_for_timeout(1500)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab
    open_part(page, "評価する")
    page.locator("#feedback-form .criterion").first.scroll_into_view_if_needed()
    box = page.locator("#feedback-submit, #feedback-vote-left").first.bounding_box()
    assert box is not None and box["height"] >= 40
    page.context.close()

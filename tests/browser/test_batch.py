"""Batches and the model panel where things go slowly or wrong, in a real Chromium with real servers on loopback."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path

import openpyxl
import pytest
from playwright.sync_api import Browser, Page, expect

from llmops_kit.models import Models
from llmops_kit.settings import Settings
from llmops_kit.store import Store
from llmops_kit.types import Run
from tests.app_process import RunningApp, start_app
from tests.browser.conftest import open_page
from tests.faulty_server import KEY, FaultyServer, Handler
from tests.test_models_download import REPOSITORY, Hub, _HubAnswer, content  # noqa: F401

pytestmark = pytest.mark.browser
ROWS = 40


class SlowHandler(Handler):
    """As the faulty server, and one more path: `slow` answers well after a second, at once when hurried."""

    hurried = threading.Event()

    def do_slow(self):
        self.hurried.wait(1.0)
        self.do_good()


@dataclass(frozen=True)
class Scene:
    app: RunningApp
    server: FaultyServer


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """An app that knows three endpoints: a slow one, one that refuses every key, one that never answers."""
    workspace = tmp_path_factory.mktemp("batch") / "workspace"
    server = FaultyServer()
    server.RequestHandlerClass = SlowHandler
    models = Models(Settings(workspace=workspace))
    for id, fault in (("slow", "slow"), ("locked", "401"), ("silent", "stall")):
        models.add(id, provider="openai", model="remote-1", base_url=server.url(fault))
    try:
        with start_app(workspace, LLMOPS_REQUEST_TIMEOUT_S="3") as app:
            yield Scene(app, server)
    finally:
        server.stop()


def open_batch(browser: Browser, app: RunningApp) -> Page:
    page = open_page(browser, app)
    page.get_by_role("tab", name="まとめて実行").click()
    page.locator("#batch-code-drawer > button").click()
    expect(page.locator("#batch-code")).to_contain_text("kit.playground.grid(['summarize']")
    return page


def choose(page: Page, chooser: str, option: str, *, instead: bool = False) -> None:
    """Pick an option of a dropdown; `instead` of the one chosen where it takes several."""
    field = page.locator(f"{chooser} input")
    field.click()
    if instead:
        field.press("Backspace")
    page.get_by_role("option", name=option).first.click()
    field.press("Escape")


def upload(page: Page, folder: Path) -> None:
    rows = folder / "rows.csv"
    rows.write_text("番号,本文\n" + "".join(f"{number},会議は{number}時に始まります。\n" for number in range(ROWS)), encoding="utf-8")
    page.locator("#batch-file input[type=file]").set_input_files(str(rows))
    expect(page.locator("#batch-about")).to_contain_text(f"{ROWS}行")
    choose(page, "#batch-column-1", "本文")


def download(page: Page, button: str) -> tuple[str, bytes]:
    with page.expect_download() as started:
        page.click(button)
    return started.value.suggested_filename, Path(started.value.path()).read_bytes()


def test_a_cancelled_batch_keeps_what_is_done_and_goes_on(browser: Browser, scene: Scene, tmp_path: Path) -> None:
    page = open_batch(browser, scene.app)
    choose(page, "#batch-models", "slow", instead=True)
    upload(page, tmp_path)
    SlowHandler.hurried.clear()
    earlier = len(scene.server.bodies)
    page.click("#batch-run")
    bar = page.locator("#batch-progress")
    expect(bar).to_contain_text(re.compile(rf"{ROWS}件中[1-9]\d*件"), timeout=60_000)
    expect(page.locator("#batch-code")).to_contain_text("'text': '本文'")
    page.click("#batch-cancel")
    expect(bar).to_contain_text("キャンセルしました", timeout=30_000)
    kept = int(re.search(r"件中(\d+)件の回答は残っています（失敗0件）", bar.inner_text())[1])  # type: ignore[index]
    assert 0 < kept < ROWS
    expect(page.locator("#batch-table")).to_contain_text("こんにちは。")
    asked, before = len(scene.server.bodies), -1
    while asked != before:  # calls that were on their way when the cancel came still arrive; a batch that went on would ask for all rows
        page.wait_for_timeout(1500)
        asked, before = len(scene.server.bodies), asked
    assert asked - earlier < ROWS, "a cancelled batch asks for nothing more"
    SlowHandler.hurried.set()
    page.click("#batch-resume")
    expect(bar).to_contain_text(f"{ROWS}件中{ROWS}件の回答", timeout=60_000)
    expect(page.locator("#batch-code")).to_contain_text("resume=")
    name, data = download(page, "#batch-jsonl")
    rows = [json.loads(line) for line in data.decode().splitlines()]
    assert name.endswith(".jsonl") and [row["row"] for row in rows] == list(range(ROWS))
    assert {row["output"] for row in rows} == {"こんにちは。"}
    assert list(Path(scene.app.workspace / "uploads").rglob("answers-*.jsonl")), "where Gradio empties it"
    page.context.close()


def test_json_is_judged_and_taken_home_as_a_workbook_and_for_wandb(browser: Browser, scene: Scene) -> None:
    page = open_batch(browser, scene.app)
    choose(page, "#batch-prompts", "お知らせの文から", instead=True)
    page.click("#batch-sample")
    expect(page.locator("#batch-about")).to_contain_text("サンプル2行")
    page.click("#batch-run")
    expect(page.locator("#batch-progress")).to_contain_text("2件中2件の回答", timeout=180_000)
    table = page.locator("#batch-table")
    expect(table).to_contain_text("スキーマ")
    expect(table).to_contain_text(re.compile("[✓✗]"))
    name, data = download(page, "#batch-xlsx")
    head, *rows = openpyxl.load_workbook(io.BytesIO(data)).active.iter_rows(values_only=True)  # type: ignore[union-attr]
    assert name.endswith(".xlsx") and len(rows) == 2 and {row[head.index("schema_ok")] for row in rows} <= {True, False}
    name, data = download(page, "#batch-wandb-table")
    assert name.startswith("grid_") and len(json.loads(data)["data"]) == 2
    expect(page.locator("#batch-wandb")).to_contain_text(name.removesuffix(".json"))
    page.context.close()


def test_what_a_batch_lacks_is_said_in_one_sentence(browser: Browser, scene: Scene) -> None:
    page = open_batch(browser, scene.app)
    page.click("#batch-run")
    expect(page.get_by_text("先に表をアップロードするか")).to_be_visible()
    page.locator("#batch-models input").click()
    page.locator("#batch-models input").press("Backspace")
    page.locator("#batch-models input").press("Escape")
    page.click("#batch-run")
    expect(page.get_by_text("モデルを1つ以上選んでください")).to_be_visible()
    page.context.close()


def test_a_wrong_key_and_a_silent_server_are_told_in_japanese_and_the_app_lives(browser: Browser, scene: Scene) -> None:
    page = open_page(browser, scene.app)
    page.click("#open-models")
    choose(page, "#models-choose", "starter-lm")
    page.locator("#models-key input").fill(KEY)
    page.click("#models-use-key")
    expect(page.get_by_text("starter-lmはこのパソコンで動くので、キーは要りません")).to_be_visible()
    page.locator(".toast-close").first.click()
    choose(page, "#models-choose", "locked")
    page.locator("#models-key input").fill(KEY)
    page.click("#models-use-key")
    expect(page.get_by_text("lockedのキーを、このページを閉じるまで使います")).to_be_visible()
    page.click("#open-models")
    choose(page, "#model-0", "locked")
    choose(page, "#model-1", "silent")
    page.click("#run")
    expect(page.locator("#facts-0")).to_contain_text(re.compile("失敗.*locked.*キー"), timeout=30_000)
    expect(page.locator("#facts-1")).to_contain_text(re.compile("失敗.*silent.*秒"), timeout=60_000)
    assert any(head.get("authorization") == f"Bearer {KEY}" for head in scene.server.headers)
    assert KEY not in page.content()
    choose(page, "#model-0", "starter-lm")
    choose(page, "#model-1", "starter-lm")
    page.click("#run")
    expect(page.locator("#facts-0")).to_contain_text("合計", timeout=120_000)
    store = Store(Settings(workspace=scene.app.workspace).store_url)
    failed = {run.model: run for run in store.find(Run, finish_reason="error")}
    store.close()
    assert {"locked", "silent"} <= failed.keys() and not any(KEY in repr(run) for run in failed.values())
    page.context.close()


def test_a_failed_row_is_told_in_japanese_in_the_table(browser: Browser, scene: Scene) -> None:
    page = open_batch(browser, scene.app)
    choose(page, "#batch-models", "locked", instead=True)
    page.click("#batch-sample")
    expect(page.locator("#batch-about")).to_contain_text("サンプル2行")
    page.click("#batch-run")
    expect(page.locator("#batch-progress")).to_contain_text("2件中0件の回答・失敗2件", timeout=60_000)
    table = page.locator("#batch-table")
    expect(table).to_contain_text("「locked」")
    assert "did not" not in table.inner_text()
    page.context.close()


def test_a_model_added_on_one_page_is_in_the_choosers_of_another(browser: Browser, scene: Scene) -> None:
    one, other = open_page(browser, scene.app), open_page(browser, scene.app)
    one.click("#open-models")
    for field, text in (("id", "added-later"), ("url", scene.server.url("good")), ("model", "remote-1")):
        one.locator(f"#models-add-{field} textarea, #models-add-{field} input").fill(text)
    one.click("#models-add")
    expect(one.get_by_text("added-laterを追加しました")).to_be_visible()
    other.locator("#model-0 input").click()
    expect(other.get_by_role("option", name="added-later")).to_be_visible()
    assert other.locator("#model-0 input").input_value() == "starter-lm"
    for page in (one, other):
        page.context.close()


def test_a_download_is_shown_stopped_and_goes_on(browser: Browser, content: dict[str, bytes], tmp_path: Path) -> None:  # noqa: F811
    hub = Hub(dict(content), delay_s=0.15)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answer", (_HubAnswer,), {"hub": hub}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    workspace = tmp_path / "workspace"
    Models(Settings(workspace=workspace)).add("tiny", provider="huggingface", model=REPOSITORY, context_tokens=256, dtype="float32")
    network = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "LLMOPS_OFFLINE": "0", "HF_HUB_OFFLINE": "0"}
    try:
        with start_app(workspace, LLMOPS_HUB_CACHE=str(tmp_path / "cache"), **network) as app:
            page = open_page(browser, app)
            page.click("#open-models")
            choose(page, "#models-choose", "tiny")
            page.click("#models-download")
            progress = page.locator("#models-progress")
            expect(progress).to_contain_text(re.compile(r"\d MB中[\d.]+ MB・残り"), timeout=30_000)
            page.click("#models-cancel")
            expect(progress).to_contain_text("で停止しました", timeout=15_000)
            page.locator("#models-table").get_by_role("textbox").fill("tiny")  # the last row is not drawn before it is in sight
            row = page.locator("#models-table")
            expect(row).to_contain_text("ダウンロードが必要です")
            hub.delay_s, hub.requests[:] = 0.0, []
            page.click("#models-download")
            expect(progress).to_contain_text("tinyが使えるようになりました", timeout=30_000)
            assert [asked for method, path, asked in hub.requests if method == "GET" and path.endswith("model.safetensors") and asked]
            expect(row).to_contain_text("使えます")
            page.context.close()
    finally:
        server.shutdown()
        server.server_close()

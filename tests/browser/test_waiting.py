"""More people than places: who waits is told their place in line, may leave it, and is answered when their turn comes."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from llmops_kit.models import Models
from llmops_kit.settings import Settings
from tests.app_process import start_app
from tests.browser.conftest import open_page
from tests.browser.test_batch import choose
from tests.browser.test_playground import answer, set_number, wait_for_words
from tests.tiny_model import build_tiny_model

pytestmark = pytest.mark.browser


def ask_for_long(page: Page) -> None:
    """Two panes on the model whose answers do not end by themselves."""
    for pane in (0, 1):
        choose(page, f"#model-{pane}", "endless")
        set_number(page, pane, "回答の最大長（トークン）", "2048")
        set_number(page, pane, "温度", "0")
    page.click("#run")


def test_who_waits_sees_their_place_and_is_answered_next(browser: Browser, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    endless = build_tiny_model(tmp_path / "endless", context_tokens=4096, layers=12, endless=True)
    Models(Settings(workspace=workspace)).add("endless", provider="huggingface", model=str(endless), context_tokens=4096, dtype="float32")
    with start_app(workspace, LLMOPS_LOCAL_SLOTS="1") as app:
        first, second = open_page(browser, app), open_page(browser, app)
        ask_for_long(first)
        first.wait_for_function("[0, 1].some(pane => document.querySelector(`#chat-${pane} .bot`))")
        ask_for_long(second)
        for pane in (0, 1):
            expect(second.locator(f"#facts-{pane}")).to_contain_text("順番待ち", timeout=30_000)
        expect(second.locator("#open-models")).to_contain_text("順番待ち", timeout=30_000)
        second.click("#stop-0")
        expect(second.locator("#facts-0")).to_contain_text("停止しました", timeout=30_000)
        for pane in (0, 1):
            first.click(f"#stop-{pane}")
        wait_for_words(second, 1)
        assert not answer(second, 0), "who left the line is not answered"
        second.click("#stop-1")
        expect(second.locator("#facts-1")).to_contain_text("停止しました", timeout=30_000)
        first.context.close()
        second.context.close()

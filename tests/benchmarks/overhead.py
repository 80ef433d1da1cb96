"""What each layer adds to the engine's bare stream: the chat model, `kit.playground.stream`, and the app in a browser over the kit."""

from __future__ import annotations

import random
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from playwright.sync_api import sync_playwright

from llmops_kit import open_kit
from llmops_kit.models.requests import GenerationRequest
from llmops_kit.types import Message
from tests.app_process import CHROMIUM, CHROMIUM_ARGS, start_app
from tests.browser.conftest import open_page

REPEATS = 40
APP_REPEATS = 12
TOKENS = 96
TEXT = "次の文章を3文以内で要約してください。\n\n市立図書館は来月から、平日の開館時間を午後9時まで延ばします。土曜と日曜の開館時間は変わりません。"
PARAMS = {"temperature": 1.0, "seed": 1, "max_tokens": TOKENS}

Sample = tuple[float, float, int]
"""Seconds to the first text, seconds in all, pieces of text."""


def run() -> None:
    """The same prompt and seed on starter-lm: through each layer in random order, then through the app."""
    with tempfile.TemporaryDirectory() as folder, open_kit(folder) as kit:
        chat = kit.models.chat("starter-lm")
        engine = chat.engine  # type: ignore[attr-defined]
        request = GenerationRequest(prompt_ids=tuple(engine.render([Message("user", TEXT)])), max_tokens=TOKENS, temperature=1.0, seed=1)

        def through_kit() -> Iterable[str]:
            seen = ""
            for growing in kit.playground.stream([{"role": "user", "content": TEXT}], model="starter-lm", **PARAMS):
                yield growing.output[len(seen) :]
                seen = growing.output

        paths: dict[str, Callable[[], Iterable[str]]] = {
            "engine": lambda: (delta.text for delta in engine.stream(request)),
            "chat model": lambda: (chunk.text for chunk in chat.stream([("user", TEXT)], **PARAMS)),
            "kit.playground.stream": through_kit,
        }
        measured: dict[str, list[Sample]] = {name: [] for name in paths}
        for path in paths.values():
            _time(path())
        for _ in range(REPEATS):
            for name in random.sample(list(paths), len(paths)):
                measured[name].append(_time(paths[name]()))
    print("| path | n | first token (ms, median) | whole answer (ms, median) | pieces | added per piece (µs) | ratio to the engine |\n|" + "---|" * 7)
    bare: list[float] = []
    for name, samples in measured.items():
        first_ms, whole_ms, pieces = (statistics.median(sample[place] for sample in samples) * scale for place, scale in ((0, 1000), (1, 1000), (2, 1)))
        bare = bare or [first_ms, whole_ms]
        per_piece_us = (whole_ms - first_ms - bare[1] + bare[0]) / max(pieces, 1) * 1000
        print(f"| {name} | {len(samples)} | {first_ms:.2f} | {whole_ms:.2f} | {pieces:.0f} | {per_piece_us:.0f} | {whole_ms / bare[1]:.3f}× |")
    _measure_app()


def _measure_app() -> None:
    """From the click on Run to the finished answer on the page, beside what the kit itself took, as the pane's own line tells it."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver, start_app(Path(folder) / "workspace") as app:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        page = open_page(browser, app, locale="en-US")
        page.click("#run")
        for pane in (0, 1):
            page.wait_for_function(f"document.querySelector('#facts-{pane}').innerText.includes('in all')")
        added, kits = [], []
        for _ in range(APP_REPEATS):
            page.wait_for_timeout(300)
            started = time.perf_counter()
            page.click("#retry-0")
            page.wait_for_function("!document.querySelector('#facts-0').innerText.includes('in all')", polling=10)
            page.wait_for_function("document.querySelector('#facts-0').innerText.includes('in all')", polling=10)
            whole_s = time.perf_counter() - started
            found = re.search(r"([\d.]+) s in all", page.locator("#facts-0").inner_text())
            kits.append(float(found[1]) if found else 0.0)
            added.append(whole_s - kits[-1])
        browser.close()
    print(
        f"\nThe app, one pane, from the click to the finished answer in Chromium (n = {APP_REPEATS}): the kit's own time {statistics.median(kits):.2f} s, "
        f"added {statistics.median(added) * 1000:.0f} ms (median; {min(added) * 1000:.0f}–{max(added) * 1000:.0f})."
    )


def _time(texts: Iterable[str]) -> Sample:
    started, first_s, pieces = time.perf_counter(), None, 0
    for text in texts:
        if text:
            pieces += 1
            first_s = first_s if first_s is not None else time.perf_counter() - started
    return first_s or 0.0, time.perf_counter() - started, pieces

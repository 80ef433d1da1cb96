"""From the command to the first page with its Run button, and the memory then: our app beside a bare Gradio app with as many empty tabs."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil
from playwright.sync_api import sync_playwright

from tests.app_process import CHROMIUM, CHROMIUM_ARGS, ROOT, find_free_port

REPEATS = 3
TABS = 5
BARE = f"""
import os, sys
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
import gradio as gr
with gr.Blocks() as blocks:
    with gr.Tabs():
        for number in range({TABS}):
            with gr.Tab(f"Tab {{number}}"):
                gr.Button("Run", elem_id="run") if number == 0 else gr.Markdown("")
blocks.launch(server_name="127.0.0.1", server_port=int(sys.argv[1]), quiet=True, run_history=False)
"""


def run() -> None:
    """Alternate the two, so that a slow moment of the machine hits both."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        measured: dict[str, list[tuple[float, float, float]]] = {"bare gradio": [], "llmops_kit": []}
        for repeat in range(REPEATS + 1):
            for name in measured:
                sample = _measure(name, browser, Path(folder) / f"{name}-{repeat}")
                if repeat:  # the first round warms the disk cache
                    measured[name].append(sample)
        browser.close()
    print("| app | n | answers after (s, median, min–max) | first page (s, median, min–max) | memory at idle (MB) |\n|---|---|---|---|---|")
    medians = {}
    for name, samples in measured.items():
        answers, pages, memory = ([sample[index] for sample in samples] for index in range(3))
        medians[name] = [statistics.median(values) for values in (answers, pages, memory)]
        print(f"| {name} | {len(samples)} | {_spread(answers)} | {_spread(pages)} | {statistics.median(memory):.0f} |")
    ratios = [ours / bare for ours, bare in zip(medians["llmops_kit"], medians["bare gradio"], strict=True)]
    print(f"| ratio | | {ratios[0]:.2f}× | {ratios[1]:.2f}× | {ratios[2]:.2f}× |")


def _measure(name: str, browser: object, folder: Path) -> tuple[float, float, float]:
    port = find_free_port()
    command = [sys.executable, "-c", BARE, str(port)] if name == "bare gradio" else [sys.executable, "app.py", "--port", str(port), "--workspace", str(folder)]
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "LLMOPS_PRELOAD": "false"})
    try:
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/", timeout=5)
                break
            except httpx.HTTPError:
                time.sleep(0.02)
        answers_s = time.perf_counter() - started
        page = browser.new_context(locale="en-US").new_page()  # type: ignore[attr-defined]
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector("#run", timeout=120_000)
        page_s = time.perf_counter() - started
        page.context.close()
        time.sleep(1)
        memory_mb = psutil.Process(process.pid).memory_info().rss / 1e6
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    return answers_s, page_s, memory_mb


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"

"""Sizes, load time, memory and speed of the starter models on one thread; starter-lm in float32 beside bfloat16, in one run."""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmops_kit.models.catalogue import PACKAGE_FILE, ModelEntry, read_catalogue
from llmops_kit.models.readiness import has_fast_bfloat16
from llmops_kit.settings import Settings
from llmops_kit.starter import WEIGHTS, weights_folder
from llmops_kit.types import Message

REPEATS = 5
TOKENS = 96
SENTENCE = "市立図書館は、来月の一日から平日の開館時間を午後九時まで延ばし、土曜と日曜の開館時間はこれまでと同じにします。"
PROMPT_TOKENS = 1000
READING = (
    "資料：\n[1] 年次有給休暇は、入社から6か月たった日に10日付与します。その後は1年ごとに増え、上限は20日です。\n"
    "[2] 休暇の申請は、取得する日の3営業日前までに社内システムで行います。急な病気のときは当日の電話でもかまいません。\n\n質問：有給休暇の上限は何日ですか？"
)
LOAD = """
import json, sys, time
from pathlib import Path
import psutil
what, folder, dtype = sys.argv[1:]
if what == "lm":
    import torch, transformers
    from transformers import AutoModelForCausalLM, LlamaForCausalLM
    from llmops_kit.models.catalogue import PACKAGE_FILE, read_catalogue
    from llmops_kit.models.loading import load_model
    from llmops_kit.settings import Settings
    torch.set_num_threads(1)
    entry = next(entry for entry in read_catalogue(PACKAGE_FILE) if entry.id == "starter-lm").model_copy(update={"dtype": dtype})
    load = lambda: load_model(entry, Path(folder), Settings())
elif what == "reader":
    from llmops_kit.models.reader import StarterReader
    load = lambda: StarterReader(folder=Path(folder))
else:
    from llmops_kit.models.embedder import StarterEmbedder
    load = lambda: StarterEmbedder(Path(folder)).embed_query("x")
process = psutil.Process()
before, started = process.memory_info().rss, time.perf_counter()
kept = load()
print(json.dumps([time.perf_counter() - started, (process.memory_info().rss - before) / 1e6]))
"""


def run() -> None:
    """Load every model in processes of its own, then time starter-lm in both number formats, in turn, and the others."""
    print(f"Fast bfloat16 on this processor: {has_fast_bfloat16()}; the loader therefore chooses {'bfloat16' if has_fast_bfloat16() else 'float32'}.\n")
    _print_loading()
    _print_generation()
    _print_others()


def _print_loading() -> None:
    """Libraries are imported before the clock starts; their size is not counted either."""
    models = [("starter-lm", "lm", "float32"), ("starter-lm", "lm", "bfloat16"), ("starter-reader", "reader", "float32")]
    if _has_embedder():
        models.append(("starter-embed", "embed", "float32"))
    measured: dict[tuple[str, str, str], list[list[float]]] = {model: [] for model in models}
    for _ in range(3):
        for id, what, dtype in random.sample(models, len(models)):
            done = subprocess.run([sys.executable, "-c", LOAD, what, str(weights_folder(id)), dtype], capture_output=True, text=True, check=True)
            measured[id, what, dtype].append(json.loads(done.stdout.splitlines()[-1]))
    print("| model | on disk (MB) | loads in (s, median of 3, checksums included) | memory added (MB) |\n|---|---|---|---|")
    for (id, _, dtype), samples in measured.items():
        load_s, memory_mb = (statistics.median(sample[index] for sample in samples) for index in range(2))
        print(f"| {id}, {dtype} | {_size_mb(weights_folder(id)):.1f} | {load_s:.2f} | {memory_mb:.0f} |")
    print(f"| all weights | {_size_mb(WEIGHTS):.1f} of 40 | | |")


def _print_generation() -> None:
    import torch

    from llmops_kit.models.engine import GenerationRequest, LocalEngine
    from llmops_kit.models.loading import load_model

    torch.set_num_threads(1)
    entry = _entry("starter-lm")
    engines = {
        dtype: LocalEngine(load_model(entry.model_copy(update={"dtype": dtype}), weights_folder("starter-lm"), Settings())) for dtype in ("float32", "bfloat16")
    }
    long = tuple((engines["float32"].encode("図書館は来月から開館時間を延ばします。The library opens longer. ") * PROMPT_TOKENS)[:PROMPT_TOKENS])
    short = tuple(engines["float32"].render([Message("user", f"次の文をそのまま書いてください。\n{SENTENCE}")]))
    speeds: dict[str, dict[str, list[float]]] = {dtype: {"answer": [], "prompt": []} for dtype in engines}
    for repeat in range(REPEATS + 1):
        for dtype in random.sample(sorted(engines), 2):
            read = _time(lambda dtype=dtype: list(engines[dtype].stream(GenerationRequest(prompt_ids=long, max_tokens=1))))  # type: ignore[misc]
            written = _speed(engines[dtype].stream(GenerationRequest(prompt_ids=short, max_tokens=TOKENS)))
            if repeat:  # the first round warms up
                speeds[dtype]["prompt"].append(len(long) / read)
                speeds[dtype]["answer"].append(written)
    print(f"\n| starter-lm, one thread, n = {REPEATS} | prompt of {len(long)} tokens (tokens/s, median) | answer (tokens/s, median) |\n|---|---|---|")
    medians = {dtype: {what: statistics.median(values) for what, values in each.items()} for dtype, each in speeds.items()}
    for dtype, each in medians.items():
        print(f"| {dtype} | {each['prompt']:.0f} | {each['answer']:.0f} |")
    ratios = {what: medians["float32"][what] / medians["bfloat16"][what] for what in ("prompt", "answer")}
    print(f"| ratio float32 / bfloat16 | {ratios['prompt']:.1f}× | {ratios['answer']:.1f}× |")


def _print_others() -> None:
    from llmops_kit import open_kit

    with tempfile.TemporaryDirectory() as folder, open_kit(folder) as kit:
        reader = kit.models.chat("starter-reader")
        print("\n| model | what | n | ms, median |\n|---|---|---|---|")
        print(f"| starter-reader | a question on two short sources | {4 * REPEATS} | {_median_ms(lambda: reader.invoke(READING), 4 * REPEATS):.1f} |")
        if _has_embedder():
            embedder: Any = kit.models.embedder()  # type: ignore[attr-defined, unused-ignore]
            texts = [f"{number}. {READING}" for number in range(100)]
            print(f"| starter-embed | a query | {4 * REPEATS} | {_median_ms(lambda: embedder.embed_query('有給休暇の上限は何日ですか？'), 4 * REPEATS):.2f} |")
            print(f"| starter-embed | 100 texts of {len(READING)} characters | {REPEATS} | {_median_ms(lambda: embedder.encode(texts), REPEATS):.1f} |")


def _has_embedder() -> bool:
    return (weights_folder("starter-embed") / "SHA256SUMS").is_file()


def _entry(id: str) -> ModelEntry:
    return next(entry for entry in read_catalogue(PACKAGE_FILE) if entry.id == id)


def _size_mb(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def _time(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _median_ms(call: Callable[[], object], repeats: int) -> float:
    call()
    return statistics.median(_time(call) for _ in range(repeats)) * 1000


def _speed(deltas: Any) -> float:
    """Tokens per second after the first one."""
    started, first, count = 0.0, 0, 0
    for delta in deltas:
        if not started:
            started, first = time.perf_counter(), delta.output_tokens
        count = delta.output_tokens
    return (count - first) / (time.perf_counter() - started) if count > first else 0.0

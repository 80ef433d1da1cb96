"""What `kit.playground.stream` adds to the chat model it calls: per token, to the first token, per request."""

from __future__ import annotations

import random
import statistics
import tempfile
import time

from llmops_kit import open_kit

REPEATS = 40
TOKENS = 96
TEXT = "次の文章を3文以内で要約してください。\n\n市立図書館は来月から、平日の開館時間を午後9時まで延ばします。土曜と日曜の開館時間は変わりません。"


def run() -> None:
    """Direct and through the playground, in random order, on starter-lm with the same prompt and length."""
    with tempfile.TemporaryDirectory() as folder, open_kit(folder) as kit:
        chat = kit.models.chat("starter-lm")
        messages = [("user", TEXT)]
        params = {"temperature": 1.0, "seed": 1, "max_tokens": TOKENS}

        def direct() -> tuple[float, float, int]:
            return _time(chunk.text for chunk in chat.stream(messages, **params))

        def through_kit() -> tuple[float, float, int]:
            seen = ""
            started, first_s, pieces = time.perf_counter(), None, 0
            for growing in kit.playground.stream([{"role": "user", "content": TEXT}], model="starter-lm", **params):
                if growing.output != seen:
                    seen, pieces = growing.output, pieces + 1
                    first_s = first_s if first_s is not None else time.perf_counter() - started
            return first_s or 0.0, time.perf_counter() - started, pieces

        direct(), through_kit()
        measured: dict[str, list[tuple[float, float, int]]] = {"direct": [], "through kit": []}
        for _ in range(REPEATS):
            for name, call in random.sample([("direct", direct), ("through kit", through_kit)], 2):
                measured[name].append(call())
    pieces = statistics.median(sample[2] for sample in measured["direct"])
    print("| path | n | first token (ms, median) | whole answer (ms, median) | pieces |\n|---|---|---|---|---|")
    medians = {}
    for name, samples in measured.items():
        medians[name] = statistics.median(sample[0] for sample in samples) * 1000, statistics.median(sample[1] for sample in samples) * 1000
        print(f"| {name} | {len(samples)} | {medians[name][0]:.2f} | {medians[name][1]:.2f} | {statistics.median(sample[2] for sample in samples):.0f} |")
    first_ms, whole_ms = (ours - bare for ours, bare in zip(medians["through kit"], medians["direct"], strict=True))
    per_piece_us = (whole_ms - first_ms) / max(pieces, 1) * 1000
    print(f"\nAdded: {first_ms:.2f} ms to the first token, {whole_ms:.2f} ms to the whole answer, {per_piece_us:.0f} µs per piece.")
    print(f"Ratio of whole answers: {medians['through kit'][1] / medians['direct'][1]:.3f}×.")


def _time(texts: object) -> tuple[float, float, int]:
    started, first_s, pieces = time.perf_counter(), None, 0
    for text in texts:  # type: ignore[attr-defined]
        if text:
            pieces += 1
            first_s = first_s if first_s is not None else time.perf_counter() - started
    return first_s or 0.0, time.perf_counter() - started, pieces

"""Fine-tuning: training tokens a second, peak memory and final evaluation loss, ours beside plain Trainer + PEFT and beside LLaMA-Factory.

`python -m tests.benchmarks tuning` runs all of it on a CPU; with `LLAMAFACTORY_PYTHON` (see `tuning_peers.py`) LLaMA-Factory too. Options:
`--data sample:shop-style|mixed`, `--repeats 3`, `--epochs 3`. `--device cuda` measures a larger random model on a GPU instead, with nothing
but the training code (`tuning_cuda.py`).
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmops_kit.models.readiness import has_fast_bfloat16
from tests.benchmarks.tuning_peers import evaluate, mix_lengths, run_system, write_task

NAMES = {
    "ours": "ours",
    "ours32": "ours, held to float32",
    "plain": "Trainer + PEFT, default padding",
    "plain16": "Trainer + PEFT, bf16=True",
    "plainours": "Trainer + PEFT, with the steps of ours",
    "llamafactory": "LLaMA-Factory 0.9.5",
}


def run(options: Sequence[str] = ()) -> None:
    """Both data sets, every system, in turn and in random order."""
    parser = argparse.ArgumentParser(prog="tuning")
    parser.add_argument("--data", default="")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-rows", type=int, default=8)
    parser.add_argument("--cores", type=int, default=None, help="hold every system to so many cores; two threads on a busy machine wait for each other")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--seconds", type=float, default=120.0, help="on a GPU: time for all runs together")
    chosen = parser.parse_args(list(options))
    if chosen.device == "cuda":
        from tests.benchmarks.tuning_cuda import compare_on_gpu

        compare_on_gpu(chosen.seconds)
        return
    systems = ["ours", "ours32", "plain", "plain16", "plainours"] if has_fast_bfloat16() else ["ours", "plain", "plainours"]
    systems += ["llamafactory"] if os.environ.get("LLAMAFACTORY_PYTHON") else []
    if "llamafactory" not in systems:
        print("LLaMA-Factory was not measured: LLAMAFACTORY_PYTHON names no Python (tuning_peers.py says how to make one).\n")
    for data in [chosen.data] if chosen.data else ["sample:shop-style", "mixed"]:
        with tempfile.TemporaryDirectory() as place:
            _compare(Path(place), data, systems, chosen)


def _compare(place: Path, data: str, systems: Sequence[str], chosen: argparse.Namespace) -> None:
    source = str(mix_lengths(place / "mixed.jsonl", rows=240, seed=1)) if data == "mixed" else data
    task = write_task(place / "task", source, batch_rows=chosen.batch_rows, epochs=chosen.epochs, seed=7)
    padding = _padding(task)
    print(
        f"### {data}: {task['row_count']} rows, {task['tokens']} tokens (longest {task['longest']}), {task['eval_count']} rows kept; "
        f"{chosen.epochs} epochs, {task['batch_rows']} rows or {task['batch_tokens']} tokens a step, rank 8, "
        f"each repeat with another seed for the order, {chosen.cores or 'all'} cores\n"
    )
    print(f"Batches of {task['batch_rows']} rows padded to their longest hold {padding:.2f} tokens for each real one.\n")
    runs: dict[str, list[dict[str, Any]]] = {system: [] for system in systems}
    for repeat in range(chosen.repeats):
        for system in random.sample(list(systems), len(systems)):
            found = run_system(system, {**task, "seed": task["seed"] + repeat}, place / f"{system}-{repeat}", cores=chosen.cores)
            found["eval_loss"] = evaluate(task, found["adapter"])
            runs[system].append(found)
    _print(runs)


def _print(runs: dict[str, list[dict[str, Any]]]) -> None:
    print("| system | tokens/s, median (each) | steps | wall of the process (s) | peak memory (MB) | trained numbers | final evaluation loss, mean (range) |")
    print("|---|---|---|---|---|---|---|")
    middle: dict[str, dict[str, float]] = {}
    for system, found in runs.items():
        speeds = [each["tokens"] / each["seconds"] for each in found]
        wall, peak = (statistics.median(each[name] for each in found) for name in ("wall_s", "peak_mb"))
        losses = [each["eval_loss"] for each in found]
        loss = statistics.mean(losses)
        middle[system] = {"speed": statistics.median(speeds), "peak": peak, "loss": loss}
        each = ", ".join(f"{speed:.0f}" for speed in speeds)
        speed, first = f"{middle[system]['speed']:.0f} ({each})", found[0]
        spread = f"{loss:.4f} ({min(losses):.4f} to {max(losses):.4f})"
        print(f"| {NAMES[system]} | {speed} | {first['steps']} | {wall:.0f} | {peak:.0f} | {first['trainable']:,} | {spread} |")
        if "counted" in first:
            print(f"{NAMES[system]} read {first['tokens']} tokens, {first['counted']} of an epoch counted.", file=sys.stderr)
    for system in list(runs)[1:]:
        ratio = {name: middle["ours"][name] / middle[system][name] for name in ("speed", "peak", "loss")}
        print(f"\nOurs over {NAMES[system]}: {ratio['speed']:.2f}× the tokens/s, {ratio['peak']:.2f}× the memory, {ratio['loss'] - 1:+.1%} in loss.")
    print()


def _padding(task: dict[str, Any]) -> float:
    import json

    lengths = [len(row["ids"]) for row in json.loads(Path(task["rows"]).read_text())]
    random.Random(0).shuffle(lengths)
    batches = [lengths[start : start + task["batch_rows"]] for start in range(0, len(lengths), task["batch_rows"])]
    return sum(max(batch) * len(batch) for batch in batches) / sum(lengths)

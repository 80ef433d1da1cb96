"""Many streams at once on two cores: the engine beside generate, `transformers serve`, llama.cpp and FastChat, in one run.

`python -m tests.benchmarks engine --streams 1,8,40 --model starter --peers ours,generate`; every option has a default. Takes hours with
all of them. What the peers need is in `engine_systems`.
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks.engine_folders import Prompt, build_random, build_starter, make_prompts
from tests.benchmarks.engine_systems import SYSTEMS, Load, Setting, Skipped, System, make_scratch, wait_for_quiet

STREAMS = "1,2,4,8,16,32,40,64,128"
MODELS: dict[str, tuple[str, Callable[[Path], Path]]] = {"starter": ("starter-lm", build_starter), "random": ("random Llama, 97.5 M", build_random)}
HEAD = "| model | system | streams | tokens/s | first token p50 (s) | p95 (s) | memory over the loaded model (MB) | peak memory (MB) | |"

DISTURBED = 0.2
"""Cores that other work may use before a row says so and its ratios are marked."""
RULE = "|---" * 9 + "|"

Results = dict[tuple[str, int], list[Load]]


def run(arguments: Sequence[str] = ()) -> None:
    """Measure the chosen models and systems; each row is printed as soon as it is there."""
    chosen = _read_options(arguments)
    import torch

    threads = chosen.threads or torch.get_num_threads()
    print(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {_processor()}, {threads} threads (torch and llama.cpp), {chosen.dtype}, n = {chosen.repeats}, "
        f"{chosen.tokens} tokens per stream, greedy, the engine's limits {chosen.limits or 'as shipped'}, "
        f"prompts of 20–60 tokens, at most {chosen.cap:.0f} s a load, seed of the order {chosen.seed}."
    )
    print(
        "First token: the first piece a client gets, from the common start. Memory over the loaded model: anonymous pages, since before the first "
        "request, of the process that computes; llama.cpp has its attention cache in it from the start.\n"
    )
    order = random.Random(chosen.seed)
    for model in chosen.model:
        label, build = MODELS[model]
        with make_scratch() as scratch:
            folder = build(Path(scratch) / "bench-model")
            prompts = make_prompts(folder, max(chosen.streams))
            setting = Setting(folder, Path(scratch), chosen.dtype, chosen.tokens, max(chosen.streams), threads, chosen.limits)
            results: Results = {}
            print(f"{HEAD}\n{RULE}", flush=True)
            for repeat in range(chosen.repeats):
                for name in order.sample(chosen.peers, len(chosen.peers)):
                    _measure(
                        label,
                        SYSTEMS[name](setting),
                        prompts,
                        chosen.streams,
                        chosen.cap,
                        chosen.quiet,
                        results,
                        f"run {repeat + 1}; " if chosen.repeats > 1 else "",
                    )
        if chosen.repeats > 1:
            _print_medians(label, results, chosen.streams)
        _print_ratios(label, results, chosen.streams)


def _read_options(arguments: Sequence[str]) -> argparse.Namespace:
    def names(known: Sequence[str]) -> Callable[[str], list[str]]:
        def read(text: str) -> list[str]:
            if wrong := [name for name in text.split(",") if name not in known]:
                raise argparse.ArgumentTypeError(f"{wrong[0]!r} is none of {', '.join(known)}")
            return text.split(",")

        return read

    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks engine", description=__doc__)
    parser.add_argument("--streams", type=lambda text: sorted({int(part) for part in text.split(",")}), default=STREAMS, help=STREAMS)
    parser.add_argument("--model", type=names(list(MODELS)), default=",".join(MODELS), help=",".join(MODELS))
    parser.add_argument("--peers", type=names(list(SYSTEMS)), default=",".join(SYSTEMS), help=",".join(SYSTEMS))
    parser.add_argument("--tokens", type=int, default=128, help="tokens per stream")
    parser.add_argument("--cap", type=float, default=180.0, help="seconds one load may take")
    parser.add_argument("--quiet", type=float, default=30.0, help="seconds to wait before each load until other work on the machine rests; 0: do not")
    parser.add_argument("--repeats", type=int, default=1, help="how often each system is started and measured, in random order")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=0, help="compute threads of every system; 0: torch's own choice")
    parser.add_argument("--limits", type=_read_limits, default="", help="of our engine, such as slots=128,cache_mb=4096")
    parser.add_argument("--seed", type=int, default=0, help="order of the systems")
    return parser.parse_args(arguments)


def _read_limits(text: str) -> dict[str, float]:
    pairs = [part.split("=") for part in text.split(",") if part]
    return {name: float(value) if "." in value else int(value) for name, value in pairs}


def _measure(label: str, system: System, prompts: Sequence[Prompt], streams: Sequence[int], cap_s: float, quiet_s: float, results: Results, run: str) -> None:
    """Start one system, put ascending loads on it until one would take too long, and stop it."""
    rate, late_at = 0.0, 0
    try:
        said = system.start()
        system.prepare(prompts)
        for count in streams:
            row = f"| {label} | {system.name} | {count} |"
            would_s = count * system.setting.tokens / rate if rate else 0.0
            if late_at:
                print(f"{row} not run: {late_at} streams already took over {cap_s:.0f} s | | | | | |", flush=True)
            elif would_s > cap_s * (2 if system.scales else 1):
                print(f"{row} not run: would take {would_s:.0f} s at {rate:.1f} tokens/s, its best so far | | | | | |", flush=True)
            else:
                wait_for_quiet(quiet_s, DISTURBED)
                load = system.measure(prompts[:count], cap_s)
                late_at = count if load.late else 0
                if load.others <= DISTURBED:  # a disturbed rate is no reason to leave the next load out; the cap ends it anyway
                    rate = max(rate, load.tokens / load.wall_s)
                results.setdefault((system.name, count), []).append(load)
                print(f"{row} {_cells([load])} {run}{_remarks(load, count, system.setting.tokens, cap_s)}{said} |", flush=True)
                said = ""
    except (Skipped, BrokenPipeError) as error:
        print(f"| {label} | {system.name} | | skipped: {error} | | | | | |", flush=True)
    finally:
        system.stop()


def _cells(loads: Sequence[Load]) -> str:
    first_s = sorted(at for load in loads for at in load.first_s)
    rate = statistics.median(load.tokens / load.wall_s for load in loads)
    added_mb, peak_mb = (max(values) for values in zip(*((load.added_mb, load.peak_mb) for load in loads), strict=True))
    return f"{rate:.1f} | {_percentile(first_s, 0.5)} | {_percentile(first_s, 0.95)} | {added_mb:.0f} | {peak_mb:.0f} |"


def _percentile(ordered: Sequence[float], share: float) -> str:
    """The smallest value that at least this share does not exceed (nearest rank)."""
    return f"{ordered[max(0, -int(-share * len(ordered) // 1) - 1)]:.3f}" if ordered else "–"


def _remarks(load: Load, count: int, tokens: int, cap_s: float) -> str:
    said = ""
    if load.errors:
        said += f"{len(load.errors)} of {count} streams failed ({load.errors[0].replace('|', '/')}); ".replace("\n", " ")
    if load.late:
        said += f"stopped after {cap_s:.0f} s; {len(load.first_s)} of {count} streams had a first token; "
    if load.others > DISTURBED:
        said += f"other work used {load.others:.1f} cores; "
    if load.tokens != count * tokens:
        said += f"{load.tokens} of {count * tokens} tokens; "
    return said


def _print_medians(label: str, results: Results, streams: Sequence[int]) -> None:
    print(f"\nOver all runs: median of tokens/s, percentiles over all their streams, most memory.\n\n{HEAD}\n{RULE}")
    for system in dict.fromkeys(name for name, _ in results):
        for count in streams:
            if loads := results.get((system, count)):
                rates = [load.tokens / load.wall_s for load in loads]
                print(f"| {label} | {system} | {count} | {_cells(loads)} n = {len(loads)}, {min(rates):.1f}–{max(rates):.1f} tokens/s |")


def _print_ratios(label: str, results: Results, streams: Sequence[int]) -> None:
    """Ours over each peer: more is better for tokens/s, less for the time to the first token."""
    peers = [name for name in dict.fromkeys(name for name, _ in results) if name != "ours"]
    if not peers or not any(name == "ours" for name, _ in results):
        return
    print(f"\n| {label}: ours / peer, tokens/s (first token p95) | {' | '.join(f'{count} streams' for count in streams)} |\n{'|---' * (len(streams) + 1)}|")
    for peer in peers:
        cells = []
        for count in streams:
            mine, theirs = results.get(("ours", count)), results.get((peer, count))
            mark = " ?" if any(load.others > DISTURBED for load in (*(mine or ()), *(theirs or ()))) else ""
            cells.append(f"{_rate(mine) / _rate(theirs):.2f}× ({_late(mine) / _late(theirs):.2f}×){mark}" if mine and theirs and _rate(theirs) else "–")
        print(f"| {peer} | {' | '.join(cells)} |")
    print("\n?: other work used the processor during one of the two; the ratio says little.\n", flush=True)


def _rate(loads: Sequence[Load]) -> float:
    return statistics.median(load.tokens / load.wall_s for load in loads)


def _late(loads: Sequence[Load]) -> float:
    ordered = sorted(at for load in loads for at in load.first_s)
    return ordered[max(0, -int(-0.95 * len(ordered) // 1) - 1)] if ordered else float("nan")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    run(sys.argv[1:])

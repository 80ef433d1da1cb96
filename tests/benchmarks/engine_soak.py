"""The engine under random use for minutes: joins, cancels, over-long prompts, dead consumers, other parameters, a killed thread.

`python -m tests.benchmarks soak --minutes 10 --seed 1`. Exits with 1 where a check at the end fails.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import gc
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from llmops_kit.errors import KitError, PromptTooLong
from llmops_kit.models.engine import Delta, Engine, GenerationRequest, ScoreRequest
from tests.benchmarks.engine_folders import CONTEXT_TOKENS, build_random, build_starter, make_prompts
from tests.benchmarks.engine_systems import make_scratch
from tests.benchmarks.engine_worker import close_engine, open_engine

DEADLINE_S = 120
CANARY_TOKENS = 24
KINDS = {"finish": 36, "cancel": 24, "abandon": 10, "unread": 6, "too long": 8, "slow": 4, "canary": 8, "score": 2, "switch": 2}
"""What a client does next, by weight. `abandon` stops reading and keeps the iterator for a while without closing it; `switch` loads an
adapter, uses it and drops it."""
ADAPTERS = ("one", "two", "three")
"""The last one is what `switch` loads and drops; the others stay."""
NEAR_LIMIT_TOKENS = 48


def kill_engine_thread(engine: Engine) -> int:
    """End the engine's own threads from outside, as a crash would: SystemExit in every thread whose name starts with "engine". How many there were.

    Takes the engine's hook instead, where it offers one (`_kill_for_test`).
    """
    if callable(hook := getattr(engine, "_kill_for_test", None)):
        hook()
        return 1
    killed = 0
    for thread in threading.enumerate():
        if thread.name.startswith("engine") and thread.ident is not None:
            killed += ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
    return killed


def read_counts(engine: Engine) -> tuple[int, int] | None:
    """How many requests the engine says are running and waiting; None where it does not say."""
    load: Any = getattr(engine, "load", None)
    return None if load is None else (load.running, load.waiting)


def build_adapters(folder: Path, model: Path, names: Sequence[str]) -> dict[str, Path]:
    """LoRA adapters of random weights for the model, of different ranks."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    built = {}
    for number, name in enumerate(names):
        torch.manual_seed(number)
        bare = AutoModelForCausalLM.from_pretrained(str(model), local_files_only=True)
        config = LoraConfig(r=4 * (number + 1), target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(bare, config).save_pretrained(str(folder / name))
        built[name] = folder / name
    return built


def run(arguments: Sequence[str] = ()) -> None:
    """Soak, then print the counts and the checks."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--model", choices=["starter", "small"], default="starter", help="small: 2 layers of random weights")
    parser.add_argument("--no-kill", action="store_true", help="leave the engine's thread alone")
    chosen = parser.parse_args(arguments)
    from transformers.utils import logging as chatter

    chatter.set_verbosity_error()  # a report at each adapter that is loaded
    chatter.disable_progress_bar()
    with make_scratch() as scratch:
        folder = Path(scratch) / "bench-model"
        build_starter(folder) if chosen.model == "starter" else build_random(folder, hidden_size=192, layers=2)
        engine = open_engine(folder)
        try:
            prompts = [prompt.ids for prompt in make_prompts(folder, 32)]
            adapters = build_adapters(Path(scratch) / "adapters", folder, ADAPTERS) if hasattr(engine, "load_adapter") else {}
            soak = Soak(engine, prompts, adapters, seed=chosen.seed, clients=chosen.clients)
            failed = soak.run(chosen.minutes * 60, kill=not chosen.no_kill)
        finally:
            close_engine(engine)
    if failed:
        sys.exit(1)


class Soak:
    """The clients, what became of their streams, and the watch over time and memory."""

    def __init__(self, engine: Engine, prompts: Sequence[tuple[int, ...]], adapters: dict[str, Path], *, seed: int, clients: int) -> None:
        self._engine: Any = engine  # parts of it are used only where it has them
        self._prompts, self._adapters, self._seed, self._clients = prompts, adapters, seed, clients
        self._lock = threading.Lock()
        self._counts: collections.Counter[str] = collections.Counter()
        self._wrong: collections.Counter[str] = collections.Counter()
        self._open: dict[int, tuple[str, float]] = {}
        self._kept: collections.deque[tuple[float, Iterator[Delta]]] = collections.deque()
        self._longest_s = 0.0
        self._tokens = 0
        self._number = 0
        self._stop = threading.Event()
        self._switching = threading.Lock()
        self._canary: dict[str | None, str] = {}
        without = ([] if adapters else ["switch"]) + ([] if hasattr(engine, "score") else ["score"])
        self._kinds = {kind: weight for kind, weight in KINDS.items() if kind not in without}

    def run(self, seconds: float, *, kill: bool) -> bool:
        """Use the engine for so long. Whether a check failed."""
        process = psutil.Process()
        for name in list(self._adapters)[:-1]:
            self._engine.load_adapter(name, self._adapters[name])
        self._canary = {name: self._text(self._make_canary(name)) for name in self._loaded_adapters}
        threads = [threading.Thread(target=self._client, args=(number,), name=f"soak-{number}", daemon=True) for number in range(self._clients)]
        for thread in threads:
            thread.start()
        started, samples, killed, answered = time.monotonic(), [], -1, 0
        while (now := time.monotonic() - started) < seconds:
            samples.append((now, process.memory_info().rss / 1e6))
            self._drop_kept(20.0)
            self._find_stuck()
            if kill and killed < 0 and now > seconds / 2:
                killed, answered = self._kill()
            self._stop.wait(min(2.0, max(0.05, seconds / 100)))
        self._stop.set()
        deadline = time.monotonic() + DEADLINE_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._find_stuck(at_end=True)
        self._drop_kept(0.0)
        counts = self._wait_until_idle()
        samples.append((time.monotonic() - started, process.memory_info().rss / 1e6))
        return self._report(samples, counts, killed, answered, seconds)

    @property
    def _loaded_adapters(self) -> list[str | None]:
        return [None, *list(self._adapters)[:-1]]

    def _make_canary(self, adapter: str | None) -> GenerationRequest:
        return GenerationRequest(prompt_ids=self._prompts[0], max_tokens=CANARY_TOKENS, adapter=adapter)

    def _client(self, number: int) -> None:
        dice = random.Random(f"{self._seed} {number}")
        while not self._stop.is_set():
            kind = dice.choices(list(self._kinds), list(self._kinds.values()))[0]
            request = self._make_request(dice, kind)
            with self._lock:
                self._number += 1
                key = self._number
                self._open[key] = (kind, time.monotonic())
            try:
                ended = self._use(kind, request, dice)
            except PromptTooLong:
                ended = "raised PromptTooLong"
                if kind != "too long":
                    self._note_wrong(f"{kind}: PromptTooLong for a prompt that fits")
            except KitError as error:
                ended = f"raised {type(error).__name__}"
            except BaseException as error:  # noqa: BLE001 - whatever else a stream raises is what this looks for
                ended = f"raised {type(error).__name__} (no KitError)"
                self._note_wrong(f"{kind}: {type(error).__name__}: {error}"[:150])
            with self._lock:
                _, began = self._open.pop(key, (kind, time.monotonic()))
                self._longest_s = max(self._longest_s, time.monotonic() - began)
                self._counts[f"{kind} → {ended}"] += 1
            self._stop.wait(dice.expovariate(10))

    def _make_request(self, dice: random.Random, kind: str) -> GenerationRequest:
        prompt, tokens = dice.choice(self._prompts), dice.randint(1, 96)
        if kind == "canary":
            return self._make_canary(dice.choice(self._loaded_adapters))
        if kind == "too long":
            prompt = (prompt * CONTEXT_TOKENS)[: CONTEXT_TOKENS - tokens + dice.choice([1, 10, CONTEXT_TOKENS, 8 * CONTEXT_TOKENS])]
        elif dice.random() < 0.01:  # just fits
            prompt = (prompt * CONTEXT_TOKENS)[: CONTEXT_TOKENS - NEAR_LIMIT_TOKENS]
            tokens = NEAR_LIMIT_TOKENS
        return GenerationRequest(
            prompt_ids=prompt,
            max_tokens=tokens,
            temperature=dice.choice([0.0, 0.0, 0.3, 1.0, 1.5]),
            top_p=dice.choice([1.0, 0.9, 0.5]),
            top_k=dice.choice([0, 1, 40]),
            repetition_penalty=dice.choice([1.0, 1.0, 1.1]),
            seed=dice.choice([None, 1, 2]),
            stop=dice.choice([(), (), ("。",), ("the", "です")]),
            owner=f"person {dice.randrange(self._clients)}",
            adapter=dice.choice(self._loaded_adapters),
        )

    def _use(self, kind: str, request: GenerationRequest, dice: random.Random) -> str:
        """What the client does with its stream, and how that ended."""
        if kind == "score":
            return self._score(request)
        if kind == "switch":
            return self._switch(request)
        deltas: Iterator[Delta] = self._engine.stream(request)
        if kind == "too long":
            self._note_wrong("too long: no PromptTooLong from stream()")
            _close(deltas)
            return "accepted"
        if kind == "unread":
            return "dropped"  # the last reference goes with this frame
        wanted = dice.randint(1, max(1, request.max_tokens)) if kind in {"cancel", "abandon"} else sys.maxsize
        text, count = "", 0
        for delta in deltas:
            if delta.output_tokens not in {count, count + 1} or (delta.output_tokens == count and delta.text):
                self._note_wrong(f"{kind}: output_tokens {delta.output_tokens} after {count}")
            text, count = text + delta.text, delta.output_tokens  # a step without a token is a sign of life
            if delta.finish_reason is not None:
                self._finish(kind, text, count, request, deltas)
                return f"finished ({delta.finish_reason})"
            if count >= wanted:
                break
            if kind == "slow":
                time.sleep(dice.uniform(0.0, 0.05))
        else:
            self._note_wrong(f"{kind}: the stream ended without a finish_reason")
            return "ended without a reason"
        with self._lock:
            self._tokens += count
            if kind == "abandon":
                self._kept.append((time.monotonic(), deltas))
        if kind == "cancel":
            _close(deltas)
            return "cancelled"
        return "abandoned"

    def _finish(self, kind: str, text: str, count: int, request: GenerationRequest, deltas: Iterator[Delta]) -> None:
        with self._lock:
            self._tokens += count
            if kind == "canary":
                self._counts["(canary answers equal to the first one, alone)"] += text == self._canary[request.adapter]
        if count > request.max_tokens:
            self._note_wrong(f"{kind}: {count} tokens of at most {request.max_tokens}")
        if next(deltas, None) is not None:
            self._note_wrong(f"{kind}: a delta after the last one")

    def _score(self, request: GenerationRequest) -> str:
        asked = [
            ScoreRequest(prompt_ids=request.prompt_ids[:40], continuation_ids=request.prompt_ids[2 : 4 + number], adapter=request.adapter)
            for number in range(3)
        ]
        scores = self._engine.score(asked)
        if [len(score.token_logprobs) for score in scores] != [len(one.continuation_ids) for one in asked] or any(score.logprob > 0 for score in scores):
            self._note_wrong("score: not one log probability per token")
        return "scored"

    def _switch(self, request: GenerationRequest) -> str:
        """Load the last adapter, answer with it and drop it; one client at a time."""
        name, folder = list(self._adapters.items())[-1]
        if not self._switching.acquire(blocking=False):
            return "left to another client"
        try:
            self._engine.load_adapter(name, folder)
            self._text(replace(request, adapter=name))
            self._engine.drop_adapter(name)
        finally:
            self._switching.release()
        return "switched"

    def _text(self, request: GenerationRequest) -> str:
        return "".join(delta.text for delta in self._engine.stream(request))

    def _kill(self) -> tuple[int, int]:
        """Kill the engine's thread; three requests after it should be answered. How many threads, how many answers."""
        killed = kill_engine_thread(self._engine)
        if not killed:
            return 0, 0
        answers: list[str] = []

        def ask() -> None:
            for wait_s in (1.0, 0.0, 0.0):
                time.sleep(wait_s)  # the exception arrives at the thread's next bytecode
                try:
                    answers.append(self._text(GenerationRequest(prompt_ids=self._prompts[1], max_tokens=8)))
                except KitError:
                    self._count("(after the kill: KitError)")

        thread = threading.Thread(target=ask, name="soak-after-kill", daemon=True)
        thread.start()
        thread.join(DEADLINE_S)
        return killed, len(answers)

    def _find_stuck(self, *, at_end: bool = False) -> None:
        with self._lock:
            for key, (kind, began) in list(self._open.items()):
                if at_end or time.monotonic() - began > DEADLINE_S:
                    del self._open[key]
                    self._wrong[f"stuck for over {time.monotonic() - began:.0f} s: {kind}"] += 1

    def _drop_kept(self, age_s: float) -> None:
        while self._kept and time.monotonic() - self._kept[0][0] >= age_s:
            with self._lock:
                _, deltas = self._kept.popleft()
            del deltas
        if not age_s:
            gc.collect()

    def _wait_until_idle(self) -> tuple[int, int] | None:
        deadline = time.monotonic() + 30
        while (counts := read_counts(self._engine)) is not None and counts != (0, 0) and time.monotonic() < deadline:
            time.sleep(0.1)
        return counts

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    def _note_wrong(self, what: str) -> None:
        with self._lock:
            self._wrong[what] += 1

    def _report(self, samples: Sequence[tuple[float, float]], counts: tuple[int, int] | None, killed: int, answered: int, seconds: float) -> bool:
        print(f"{seconds / 60:.1f} minutes, {self._clients} clients, seed {self._seed}, {type(self._engine).__name__}; {self._tokens:,} tokens read.\n")
        print("| stream → end | count |\n|---|---|")
        for what, count in sorted(self._counts.items()):
            print(f"| {what} | {count:,} |")
        print(f"\nLongest stream: {self._longest_s:.1f} s (deadline {DEADLINE_S} s).")
        settled = [sample for sample in samples if sample[0] >= min(60.0, seconds / 4)]
        slope = statistics.linear_regression(*zip(*settled, strict=True)).slope * 60 if len(settled) > 1 else float("nan")
        early = "the first minute" if seconds >= 240 else "the first quarter"
        print(f"Memory: {samples[0][1]:.0f} MB at the start, {settled[0][1]:.0f} after {early}, {samples[-1][1]:.0f} at the end; slope {slope:+.2f} MB/min.")
        checks: list[tuple[str, Callable[[], bool]]] = [
            (f"streams that are stuck, or ended otherwise than they may: {sum(self._wrong.values())}", lambda: not self._wrong),
            (f"running and waiting at the end: {counts or 'the engine does not say'}", lambda: counts in {None, (0, 0)}),
        ]
        if killed > 0:
            checks.append((f"requests answered after the engine's thread was killed: {answered} of 3", lambda: answered == 3))
        elif killed == 0:
            print("The engine has no thread of its own to kill.")
        for what, holds in checks:
            print(f"- {'holds' if holds() else 'FAILS'}: {what}")
        for what, count in self._wrong.most_common():
            print(f"  - {count} × {what}")
        return not all(holds() for _, holds in checks)


def _close(deltas: Iterator[Delta]) -> None:
    if callable(close := getattr(deltas, "close", None)):
        close()


if __name__ == "__main__":
    run(sys.argv[1:])

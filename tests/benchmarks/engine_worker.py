"""A process of its own that holds one model and answers loads read from its standard input; started by `engine_systems`.

`python -m tests.benchmarks.engine_worker ours|generate|threads FOLDER DTYPE LIMITS`. One line of JSON in, one out.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llmops_kit.models.engine import Engine, EngineLimits, GenerationRequest, LocalEngine

Answer = Callable[[int, Sequence[int], int, float, Callable[[int], None]], None]
"""Answers stream number so-and-so: its prompt, with so many tokens, until a deadline; tells how many tokens there are so far, as they come."""


def open_engine(folder: Path, *, dtype: str = "float32", limits: dict[str, float] | None = None) -> Engine:
    """Our engine on a model folder, with its own limits where none are given; load and soak tests both use it."""
    return LocalEngine(_load(folder, dtype), EngineLimits(**(limits or {})))  # type: ignore[arg-type]


def close_engine(engine: Engine) -> None:
    """End the engine's own threads, where it has any."""
    if callable(close := getattr(engine, "close", None)):
        close()


def run_together(count: int, read: Callable[[int], None]) -> float:
    """`read(0)`, `read(1)` … each in a thread of its own, begun at the same moment. That moment, once all have ended."""
    started: list[float] = []
    barrier = threading.Barrier(count, action=lambda: started.append(time.perf_counter()))

    def begin(number: int) -> None:
        barrier.wait()
        read(number)

    threads = [threading.Thread(target=begin, args=(number,), name=f"client-{number}", daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return started[0]


def _load(folder: Path, dtype: str) -> Any:
    from llmops_kit.models.catalogue import ModelEntry
    from llmops_kit.models.loading import load_model
    from llmops_kit.settings import Settings
    from tests.benchmarks.engine_folders import CONTEXT_TOKENS

    entry = ModelEntry(id="bench", provider="huggingface", model=str(folder), context_tokens=CONTEXT_TOKENS, dtype=dtype)
    return load_model(entry, folder, Settings())


def _answer_ours(engine: Engine) -> Answer:
    def answer(number: int, ids: Sequence[int], tokens: int, deadline: float, note: Callable[[int], None]) -> None:
        deltas = engine.stream(GenerationRequest(prompt_ids=tuple(ids), max_tokens=tokens, owner=f"person {number}"))
        try:
            for delta in deltas:
                note(delta.output_tokens)
                if time.perf_counter() > deadline:
                    return
        finally:
            if callable(close := getattr(deltas, "close", None)):
                close()

    return answer


def _answer_generate(loaded: Any) -> Answer:
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList
    from transformers.generation.streamers import BaseStreamer

    class Clock(BaseStreamer):  # type: ignore[misc, unused-ignore]
        """Notes each token; the first call brings the prompt."""

        def __init__(self, note: Callable[[int], None]) -> None:
            self._note, self._calls = note, 0

        def put(self, value: Any) -> None:
            self._calls += 1
            if self._calls > 1:
                self._note(self._calls - 1)

        def end(self) -> None:
            pass

    class Late(StoppingCriteria):  # type: ignore[misc, unused-ignore]
        def __init__(self, deadline: float) -> None:
            self._deadline = deadline

        def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
            return torch.full((input_ids.shape[0],), time.perf_counter() > self._deadline, dtype=torch.bool)

    def answer(number: int, ids: Sequence[int], tokens: int, deadline: float, note: Callable[[int], None]) -> None:
        if time.perf_counter() > deadline:
            return
        prompt = torch.tensor([list(ids)])
        loaded.model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=0,
            streamer=Clock(note),
            stopping_criteria=StoppingCriteriaList([Late(deadline)]),
        )

    return answer


def _measure(answer: Answer, prompts: Sequence[Sequence[int]], tokens: int, cap_s: float, *, together: bool) -> dict[str, Any]:
    first: list[float | None] = [None] * len(prompts)
    counts = [0] * len(prompts)
    errors: list[str] = []
    deadline = time.perf_counter() + cap_s

    def read(number: int) -> None:
        def note(count: int) -> None:
            if count and first[number] is None:
                first[number] = time.perf_counter()
            counts[number] = count

        try:
            answer(number, prompts[number], tokens, deadline, note)
        except Exception as error:  # noqa: BLE001 - any failure of one stream is a result
            errors.append(f"{type(error).__name__}: {error}"[:200])

    if together:
        started = run_together(len(prompts), read)
    else:
        started = time.perf_counter()
        for number in range(len(prompts)):
            read(number)
    wall_s = time.perf_counter() - started
    return {"wall_s": wall_s, "first_s": [at and max(0.0, at - started) for at in first], "tokens": counts, "errors": errors}


def main() -> None:
    """Load, say so, then answer one load per line until the input ends."""
    what, folder, dtype, limits = sys.argv[1:5]
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # libraries may print; the results must stay readable
        import torch

        engine = open_engine(Path(folder), dtype=dtype, limits=json.loads(limits)) if what == "ours" else None
        answer = _answer_ours(engine) if engine is not None else _answer_generate(_load(Path(folder), dtype))
        if engine is None:  # loading leaves one thread to everybody but the engine; these compute themselves
            torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
        print(json.dumps({"ready": True, "threads": torch.get_num_threads(), "engine": type(engine).__name__ if engine else None}), file=out, flush=True)
        for line in sys.stdin:
            load = json.loads(line)
            result = _measure(answer, load["prompts"], load["tokens"], load["cap_s"], together=what != "generate")
            print(json.dumps(result), file=out, flush=True)
        if engine is not None:
            close_engine(engine)


if __name__ == "__main__":
    main()

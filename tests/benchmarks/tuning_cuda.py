"""Ours beside plain Trainer + PEFT on a GPU: a random Llama of about a thousand million weights, rows with the lengths of real chats.

Uses the training code alone (no workspace, no tokenizer), so that it runs where only torch, transformers and PEFT are installed. The rows are
walks through a small random table of successors, so that there is something to learn and the losses can be compared.
"""

from __future__ import annotations

import gc
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

SHAPE = {
    "vocab_size": 32_768, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
    "num_key_value_heads": 8, "max_position_embeddings": 4096, "tie_word_embeddings": True,
}  # fmt: skip
BATCH_TOKENS, LONGEST, SEED = 8192, 2048, 3
ROWS, EVAL_ROWS = 2000, 64


def compare_on_gpu(seconds: float, shape: dict[str, Any] | None = None, *, batch_tokens: int = BATCH_TOKENS, rows: int = ROWS) -> dict[str, Any]:
    """Each system in turn for an equal share of `seconds` and the same number of steps, one warm-up before each; prints and gives the figures."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    shape = shape or SHAPE
    data = make_rows(rows + EVAL_ROWS, shape["vocab_size"])
    train, kept = data[:-EVAL_ROWS], data[-EVAL_ROWS:]
    mean = statistics.mean(len(ids) for ids, _ in train)
    batch_rows = max(1, round(batch_tokens / mean))
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}: {len(train)} rows of {mean:.0f} tokens on average (longest {max(len(ids) for ids, _ in train)}), ", end="")
    print(f"{batch_tokens} tokens or {batch_rows} rows a step, rank 16, bfloat16\n")
    found: dict[str, Any] = {}
    steps = None
    for system, measure in (("plain", run_plain), ("ours", run_ours)):
        found[system] = measure(train, kept, shape, device, batch_rows, batch_tokens, steps, seconds / 2)
        steps = found[system]["steps"]
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    print("| system | real tokens/s | steps | s | peak GPU memory (GB) | loss of held-out rows |\n|---|---|---|---|---|---|")
    for system, each in found.items():
        print(f"| {system} | {each['tokens_per_s']:.0f} | {each['steps']} | {each['seconds']:.1f} | {each['peak_gb']:.1f} | {each['loss']:.4f} |")
    ratio = found["ours"]["tokens_per_s"] / found["plain"]["tokens_per_s"]
    print(f"\nOurs over plain: {ratio:.2f}× the tokens/s, {found['ours']['peak_gb'] / max(found['plain']['peak_gb'], 1e-9):.2f}× the memory; ", end="")
    print(f"packed: {found['ours']['packed']}, torch's attention for rows of different lengths: {found['ours']['at_once']}")
    print(json.dumps({"gpu": name, "torch": torch.__version__, **found}))
    return found


def make_rows(count: int, vocabulary: int) -> list[tuple[list[int], list[bool]]]:
    """Rows of log-normal length (median 220 tokens, σ 0.8, as chat sets have), of which the last part, 15 to 70 %, is the answer."""
    chance = random.Random(SEED)
    first = [chance.randrange(10, vocabulary) for _ in range(400)]
    after = {token: chance.choices(first, k=3) for token in first}
    rows = []
    for _ in range(count):
        length = min(LONGEST, max(16, int(chance.lognormvariate(5.4, 0.8))))
        ids = [chance.choice(first)]
        while len(ids) < length:
            ids.append(chance.choice(after[ids[-1]]))
        answer = max(2, int(length * chance.uniform(0.15, 0.7)))
        rows.append((ids, [False] * (length - answer) + [True] * answer))
    return rows


def build(shape: dict[str, Any], device: str) -> Any:
    """The random base in bfloat16 (float32 on a CPU), the same each time."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return LlamaForCausalLM(LlamaConfig(**shape))
    finally:
        torch.set_default_dtype(before)


def run_ours(train: Any, kept: Any, shape: Any, device: str, batch_rows: int, batch_tokens: int, steps: int | None, seconds: float) -> dict[str, Any]:
    """The kit's steps: its order, passes and trainer."""
    from llmops_kit.tuning.spec import TuneSpec
    from llmops_kit.tuning.training.adapters import add_adapter, join_layers
    from llmops_kit.tuning.training.batches import Row
    from llmops_kit.tuning.training.order import plan_steps
    from llmops_kit.tuning.training.passes import Passes
    from llmops_kit.tuning.training.place import Place
    from llmops_kit.tuning.training.trainer import StepTrainer, make_arguments, quiet, without_printing

    spec = TuneSpec(data="-", rank=16, alpha=32, learning_rate=1e-3, batch_tokens=batch_tokens, warmup=0.0, scheduler="constant", seed=SEED)
    with quiet(), tempfile.TemporaryDirectory() as folder:
        tuned = add_adapter(build(shape, device), spec)
        joined = join_layers(tuned)
        rows = [Row(tuple(ids), tuple(counted), 1.0, number) for number, (ids, counted) in enumerate(train)]
        place = Place(device, "bfloat16" if device == "cuda" else "float32", 16_384, 8192)
        passes = Passes.choose(tuned, place, 0, rows, packing=True, casts=not joined)
        planned = plan_steps([[len(row.ids)] for row in rows], epochs=50, batch_tokens=batch_tokens, seed=SEED, max_steps=steps or 10**6)
        tokens = [sum(len(rows[row].ids) for row in step.rows) for step in planned]
        watch = _watch(seconds, lambda step: tokens[step - 1], steps)
        arguments = make_arguments(spec, Path(folder), steps=len(planned), kind=device)
        trainer = without_printing(
            StepTrainer(passes=passes, rows=rows, steps=planned, spec=spec, rank=0, processes=1, args=arguments, callbacks=[watch])
        )
        trainer.train()
        return {**watch.facts(), "loss": measure_loss(tuned, kept, device), "packed": passes.packed, "at_once": passes.at_once}


def run_plain(train: Any, kept: Any, shape: Any, device: str, batch_rows: int, batch_tokens: int, steps: int | None, seconds: float) -> dict[str, Any]:
    """Trainer + PEFT with bf16 and default padding, as their documentation shows it."""
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer, TrainingArguments

    from llmops_kit.tuning.training.trainer import quiet
    from tests.benchmarks.tuning_peers import pad_rows

    seen: list[int] = []

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        seen.append(sum(len(row["ids"]) for row in rows))
        return pad_rows(rows)

    with quiet(), tempfile.TemporaryDirectory() as folder:
        tuned = get_peft_model(build(shape, device), LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
        watch = _watch(seconds, lambda step: seen[step - 1], steps)
        arguments = TrainingArguments(
            output_dir=folder, use_cpu=device == "cpu", bf16=device == "cuda", per_device_train_batch_size=batch_rows, num_train_epochs=50, seed=SEED,
            learning_rate=1e-3, lr_scheduler_type="constant", report_to="none", disable_tqdm=True, save_strategy="no", logging_strategy="no",
            remove_unused_columns=False,
        )  # fmt: skip
        data = [{"ids": ids, "counted": counted} for ids, counted in train]
        Trainer(model=tuned, args=arguments, train_dataset=data, data_collator=collate, callbacks=[watch]).train()
        return {**watch.facts(), "loss": measure_loss(tuned, kept, device)}


def measure_loss(model: Any, kept: Any, device: str) -> float:
    """The mean loss of the counted tokens of held-out rows, one row at a time."""
    import torch

    total = count = 0.0
    model.eval()
    with torch.no_grad():
        for ids, counted in kept:
            given, wanted = torch.tensor(ids, device=device), torch.tensor(counted[1:], device=device)
            logits = model(input_ids=given[None], use_cache=False).logits[0, :-1][wanted].float()
            total += float(torch.nn.functional.cross_entropy(logits, given[1:][wanted], reduction="sum"))
            count += int(wanted.sum())
    return total / count


def _watch(seconds: float, tokens_of: Any, steps: int | None) -> Any:
    """Counts from the third step on, and stops after `steps`, or else when the time is up."""
    import torch
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.tokens, self.steps, self.began, self.ended = 0, 0, 0.0, 0.0

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            now = time.perf_counter()
            self.steps = int(state.global_step)
            if self.steps == 2:
                self.began = now
            elif self.steps > 2:
                self.tokens += tokens_of(self.steps)
                self.ended = now
            control.should_training_stop = self.steps >= steps if steps else self.steps > 4 and now - self.began > seconds
            return control

        def facts(self) -> dict[str, Any]:
            taken = self.ended - self.began
            peak = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0
            return {"tokens_per_s": self.tokens / taken, "seconds": taken, "steps": self.steps, "peak_gb": peak}

    return Watch()

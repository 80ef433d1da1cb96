"""The training loop: copying of random tokens first, then instructions, with the loss on the answers alone."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from llmops_kit.starter.feeding import read_ahead
from llmops_kit.starter.rows import Row, encode_row
from llmops_kit.starter.tokenizer import EOS, PAD, SPECIAL_TOKENS

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

    from llmops_kit.starter.curriculum import Curriculum

log = logging.getLogger(__name__)

Batch = list[tuple[list[int], list[int]]]
POOL_ROWS = 320
POOL_SHARE = 24  # a pool has at least one row in so many tokens of a batch, which makes several batches
IGNORED = -100
FIRST_TOKENS = 64  # of an answer, before the rows without an end are tried again with more


@dataclass(frozen=True)
class Plan:
    """Hyper-parameters. Steps are optimiser steps; `cpu_minutes` and `wall_minutes`, if set, end the run earlier."""

    steps: int = 15_000
    copy_steps: int = 10
    batch_tokens: int = 896
    max_tokens: int = 448
    learning_rate: float = 1.2e-3
    careful_share: float = 0.4  # of the learning rate, for what was written by hand
    warmup_steps: int = 40
    copy_share: float = 0.08
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 20261122
    threads: int = 1
    cpu_minutes: float | None = None
    wall_minutes: float | None = None
    log_every: int = 40
    device: str = "cpu"
    precision: str = "float32"  # of the arithmetic; the weights being trained are float32 always
    weights_format: str = "float32"  # of the shipped file
    workers: int = 0  # processes that draw rows ahead; they change the rows drawn, so the number belongs to the record


def plan_for(size: str, device: str) -> Plan:
    """The plan where nothing else is asked for: large batches in bfloat16 on CUDA, and half the file for the large size."""
    plan = Plan(device=device, weights_format="bfloat16" if size == "large" else "float32")
    if device == "cuda":
        plan = replace(plan, batch_tokens=32_768, learning_rate=2e-3, warmup_steps=200, copy_steps=50, max_tokens=640, precision="bfloat16", workers=12)
    return replace(plan, steps=20_000) if (size, device) == ("large", "cuda") else plan


@dataclass
class History:
    """What the run cost and how it went; `log` has a row every `log_every` steps."""

    tokens: int = 0
    answer_tokens: int = 0
    attended: int = 0  # sum of (width of its row) over all tokens
    rows: int = 0
    steps: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    log: list[dict[str, float]] = field(default_factory=list)


def copying_batch(rng: Random, *, vocabulary: int, first: int, tokens: int) -> Batch:
    """Random sequences followed by themselves: nothing can be learnt from them but copying."""
    length = rng.choice((12, 24, 48, 96, 180))
    return [
        (sequence, list(sequence[: rng.randint(length // 2, length)]))
        for sequence in ([rng.randrange(first, vocabulary) for _ in range(length)] for _ in range(max(1, tokens // (2 * length))))
    ]


def instruction_batches(rng: Random, tokenizer: Tokenizer, curriculum: Curriculum, plan: Plan) -> Iterator[Batch]:
    """Endless batches of about `plan.batch_tokens`, rows of similar length together."""
    rows = max(POOL_ROWS, plan.batch_tokens // POOL_SHARE)
    while True:
        pool = [encode_row(tokenizer, curriculum.draw(rng)) for _ in range(rows)]
        pool = sorted((row for row in pool if len(row[0]) + len(row[1]) <= plan.max_tokens), key=lambda row: len(row[0]) + len(row[1]))
        batches: list[Batch] = [[]]
        for row in pool:
            width = len(row[0]) + len(row[1])
            if batches[-1] and width * (len(batches[-1]) + 1) > plan.batch_tokens:
                batches.append([])
            batches[-1].append(row)
        rng.shuffle(batches)
        yield from batches


def feed(rng: Random, tokenizer: Tokenizer, curriculum: Curriculum, plan: Plan) -> Iterator[Batch]:
    """Instruction batches drawn here, or with `plan.workers` by processes that draw ahead, read in turn so that their order is fixed."""
    if not plan.workers:
        return instruction_batches(rng, tokenizer, curriculum, plan)
    return read_ahead([partial(instruction_batches, Random(f"{plan.seed} {number}"), tokenizer, curriculum, plan) for number in range(plan.workers)])


def collate(batch: Batch, pad: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs padded on the right, targets that are ignored everywhere but on the answers, and the targets' weights.

    A token weighs one over the square root of its answer's length: a label of two tokens is not drowned by a summary of eighty.
    """
    import torch

    width = max(len(prompt) + len(answer) for prompt, answer in batch)
    inputs = torch.full((len(batch), width), pad)
    targets = torch.full((len(batch), width), IGNORED)
    weights = torch.zeros(len(batch), width)
    for number, (prompt, answer) in enumerate(batch):
        ids = torch.tensor(prompt + answer)
        inputs[number, : len(ids)] = ids
        targets[number, len(prompt) - 1 : len(ids) - 1] = ids[len(prompt) :]
        weights[number, len(prompt) - 1 : len(ids) - 1] = len(answer) ** -0.5
    return inputs, targets, weights


def answer_loss(model: LlamaForCausalLM, inputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Weighted mean cross-entropy, and accuracy, over the answer tokens. The output layer runs on those positions alone.

    Padding stands on the right, so causal attention needs no mask.
    """
    import torch.nn.functional as functional

    wanted = targets != IGNORED
    hidden = model.model(input_ids=inputs, use_cache=False).last_hidden_state[wanted]
    logits = model.lm_head(hidden)
    gold = targets[wanted]
    losses = functional.cross_entropy(logits, gold, reduction="none") * weights[wanted]
    return losses.sum() / weights.sum(), float((logits.argmax(-1) == gold).float().mean())


@dataclass(frozen=True)
class Taken:
    """One step: its loss, the share of tokens it had right, the length of the gradient before it was cut, and its size in tokens."""

    loss: float
    accuracy: float
    grad_norm: float
    tokens: int
    width: int
    answer_tokens: int


def take_step(model: LlamaForCausalLM, optimiser: torch.optim.Optimizer, plan: Plan, batch: Batch, *, step: int, progress: float, pad: int) -> Taken:
    """One optimiser step on `batch`: step number `step` (from 0), `progress` being how much of the run is over, from 0 to 1."""
    import torch

    device = next(model.parameters()).device
    inputs, targets, weights = (part.to(device) for part in collate(batch, pad))
    for group in optimiser.param_groups:
        group["lr"] = plan.learning_rate * group["share"] * warm(step, plan) * decay(progress)
    with torch.autocast(device.type, torch.bfloat16, enabled=plan.precision == "bfloat16"):
        loss, accuracy = answer_loss(model, inputs, targets, weights)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
    optimiser.step()
    return Taken(loss.item(), accuracy, float(norm), inputs.numel(), inputs.shape[1], int((targets != IGNORED).sum()))


def train(model: LlamaForCausalLM, tokenizer: Tokenizer, curriculum: Curriculum, plan: Plan, *, checkpoint: Path | None = None) -> History:
    """Train in place, saving the state to `checkpoint` with every fifth log row. Deterministic for a seed unless a time limit cuts it short."""
    import torch

    torch.manual_seed(plan.seed)
    torch.set_num_threads(plan.threads)
    rng = Random(plan.seed)
    pad, first, vocabulary = tokenizer.get_vocab()[PAD], len(SPECIAL_TOKENS) + 256, tokenizer.get_vocab_size()
    optimiser = build_optimiser(model, plan)
    history, batches = History(), feed(rng, tokenizer, curriculum, plan)
    started_cpu, started_wall = time.process_time(), time.monotonic()
    recent: list[tuple[float, float]] = []
    model.train()
    for step in range(plan.steps):
        progress = max(step / plan.steps, _share(started_cpu, time.process_time(), plan.cpu_minutes), _share(started_wall, time.monotonic(), plan.wall_minutes))
        if progress >= 1:
            break
        copying = step < plan.copy_steps or rng.random() < plan.copy_share
        batch = copying_batch(rng, vocabulary=vocabulary, first=first, tokens=plan.batch_tokens) if copying else next(batches)
        taken = take_step(model, optimiser, plan, batch, step=step, progress=progress, pad=pad)
        history.tokens += taken.tokens
        history.attended += taken.tokens * taken.width
        history.rows += len(batch)
        history.answer_tokens += taken.answer_tokens
        history.steps = step + 1
        if not copying or step < plan.copy_steps:
            recent.append((taken.loss, taken.accuracy))
        if (step + 1) % plan.log_every == 0:
            history.log.append(_summary(step + 1, recent, history, time.process_time() - started_cpu))
            log.info("%s", history.log[-1])
            recent.clear()
            if checkpoint and len(history.log) % 5 == 0:
                torch.save(model.state_dict(), checkpoint)
    history.cpu_s, history.wall_s = time.process_time() - started_cpu, time.monotonic() - started_wall
    model.eval()
    return history


def _share(started_s: float, now_s: float, limit_minutes: float | None) -> float:
    return (now_s - started_s) / 60 / limit_minutes if limit_minutes else 0.0


def build_optimiser(model: LlamaForCausalLM, plan: Plan) -> torch.optim.Optimizer:
    """AdamW; what was written by hand (embeddings, attention of the first two layers) learns more slowly, so that it is not lost.

    At the full rate the embeddings of rare tokens drift together, because the softmax pushes all of them away at every step, and are then
    confused when copied.
    """
    import torch

    careful = ("model.embed_tokens", "model.layers.0.self_attn", "model.layers.1.self_attn")
    named = [(name.startswith(careful), weight) for name, weight in model.named_parameters()]
    groups = [
        {"params": [weight for slow, weight in named if slow], "weight_decay": 0.0, "share": plan.careful_share},
        {"params": [weight for slow, weight in named if not slow and weight.ndim == 2], "weight_decay": plan.weight_decay, "share": 1.0},
        {"params": [weight for slow, weight in named if not slow and weight.ndim != 2], "weight_decay": 0.0, "share": 1.0},
    ]
    return torch.optim.AdamW(groups, lr=plan.learning_rate, betas=(0.9, 0.97), eps=1e-9, fused=True)


def warm(step: int, plan: Plan) -> float:
    """How much of the learning rate step `step` (from 0) has while it rises."""
    return min(1.0, (step + 1) / plan.warmup_steps)


def decay(progress: float) -> float:
    """Full rate for the first half, then a half-cosine down to a twentieth."""
    if progress < 0.5:
        return 1.0
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (progress - 0.5) / 0.5))


def _summary(step: int, recent: list[tuple[float, float]], history: History, cpu_s: float) -> dict[str, float]:
    losses, hits = zip(*recent, strict=True) if recent else ((math.nan,), (math.nan,))
    return {
        "step": step,
        "loss": round(sum(losses) / len(losses), 4),
        "accuracy": round(sum(hits) / len(hits), 4),
        "tokens": history.tokens,
        "cpu_s": round(cpu_s, 1),
    }


def answer_rows(model: LlamaForCausalLM, tokenizer: Tokenizer, rows: list[Row], *, max_new_tokens: int = 96, batch_rows: int = 50) -> list[str | None]:
    """Greedy answers of `rows`; None where the model did not stop by itself within `max_new_tokens`."""
    import torch

    vocabulary = tokenizer.get_vocab()
    pad, eos = vocabulary[PAD], vocabulary[EOS]
    prompts = [encode_row(tokenizer, row)[0] for row in rows]
    open_rows = sorted(range(len(rows)), key=lambda number: len(prompts[number]))
    answers: list[str | None] = [None] * len(rows)
    for limit in sorted({min(FIRST_TOKENS, max_new_tokens), max_new_tokens}):  # the few that go on and on are taken up again by themselves
        for start in range(0, len(open_rows), batch_rows):
            numbers = open_rows[start : start + batch_rows]
            width = max(len(prompts[number]) for number in numbers)
            ids = torch.tensor([[pad] * (width - len(prompts[number])) + prompts[number] for number in numbers], device=model.device)
            with torch.inference_mode():
                out = model.generate(ids, attention_mask=(ids != pad).long(), max_new_tokens=limit, do_sample=False)
            for number, sequence in zip(numbers, out[:, width:].tolist(), strict=True):
                if eos in sequence:
                    answers[number] = tokenizer.decode(sequence[: sequence.index(eos)])
        open_rows = [number for number in open_rows if answers[number] is None]
    return answers

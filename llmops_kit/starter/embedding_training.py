"""Training of starter-embed: symmetric in-batch contrast of pairs that belong together, and ranking of graded pairs."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmops_kit.starter.embedding_pairs import POSITIVE_SCORE, Batch, ScoredSource, Source
from llmops_kit.starter.embedding_tokenizer import Tokens

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
Floats = NDArray[np.float32]
LOG_STEPS = 200
WEIGHTS: Mapping[str, float] = {
    "jaquad": 5, "new_wiki": 1, "fairy": 0.7, "jsts": 3, "titles": 0.7,
    "kyoto_ja": 3, "kyoto_en": 2, "kyoto_sentences": 2, "kyoto_ja_en": 1, "kyoto_en_ja": 2,
}


@dataclass(frozen=True)
class Plan:
    """How starter-embed is trained. `weights` are the shares of batches that the sources get."""

    dimensions: int = 512
    vocabulary: int = 24_000
    steps: int = 2000
    batch: int = 512
    per_article: int = 8
    longest: int = 128
    token_dropout: float = 0.2
    rate: float = 0.02
    scale: float = 20.0
    graded_scale: float = 20.0
    graded_weight: float = 1.0
    seed: int = 0
    weights: Mapping[str, float] = field(default_factory=lambda: dict(WEIGHTS))


def initial_table(rarity: Floats, plan: Plan) -> Floats:
    """Gaussian directions, as long as their token is rare: a random projection of IDF-weighted bags, before any training."""
    rng = np.random.default_rng(plan.seed)
    noise = rng.standard_normal((len(rarity), plan.dimensions)).astype(np.float32)
    return noise * (rarity[:, None] / np.float32(plan.dimensions**0.5))


def train(start: Floats, sources: Mapping[str, Source | ScoredSource], plan: Plan, *, device: str = "cpu") -> Floats:
    """The trained table. On one CPU thread the same `start` and `plan` give the same table; other devices sum in another order."""
    import torch

    rng = np.random.default_rng(plan.seed + 1)
    names = [name for name in sources if plan.weights.get(name, 0) > 0]
    shares = np.array([plan.weights[name] for name in names])
    order = rng.choice(len(names), plan.steps, p=shares / shares.sum())
    table = torch.from_numpy(start.copy()).to(device).requires_grad_()
    optimiser = torch.optim.Adam([table], lr=plan.rate, fused=True)
    begun = time.process_time()
    losses: dict[str, float] = {}
    for step, number in enumerate(order):
        name = names[number]
        optimiser.param_groups[0]["lr"] = plan.rate * (1 - step / plan.steps)
        batch = sources[name].draw(rng, plan.batch, per_article=plan.per_article, longest=plan.longest)
        loss = measure_loss(table, drop_tokens(batch, rng, plan.token_dropout), plan, device)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses[name] = 0.9 * losses.get(name, float(loss.detach())) + 0.1 * float(loss.detach())
        if (step + 1) % LOG_STEPS == 0 or step + 1 == plan.steps:
            shown = ", ".join(f"{key} {losses[key]:.3f}" for key in sorted(losses))
            log.info("step %d, %.0f CPU-s, %s", step + 1, time.process_time() - begun, shown)
    trained: Floats = table.detach().cpu().numpy()
    return trained


def drop_tokens(batch: Batch, rng: np.random.Generator, share: float) -> Batch:
    """The batch without a random `share` of its tokens, so that pairs are not learnt by heart; the first token of a text stays.

    Graded pairs stay whole: they are short, and their scores are about every word.
    """
    if not share or batch.scores is not None:
        return batch
    return replace(batch, left=_thin(batch.left, rng, share), right=_thin(batch.right, rng, share))


def _thin(tokens: Tokens, rng: np.random.Generator, share: float) -> Tokens:
    kept = rng.random(len(tokens.flat)) >= share
    kept[tokens.starts] = True
    return Tokens(tokens.flat[kept], np.concatenate([[0], kept.cumsum()])[tokens.offsets])


def measure_loss(table: torch.Tensor, batch: Batch, plan: Plan, device: str) -> torch.Tensor:
    """InfoNCE in both directions; for graded pairs also CoSENT, which wants the more alike pair to be the nearer one."""
    import torch
    from torch.nn.functional import cross_entropy

    left, right = _embed(table, batch, device)
    keys = torch.from_numpy(batch.keys).to(device)
    graded = torch.zeros((), device=device)
    if batch.scores is not None:
        scores = torch.from_numpy(batch.scores).to(device)
        near = (left * right).sum(1) * plan.graded_scale
        wrong = (near[:, None] - near[None, :])[scores[:, None] < scores[None, :]]
        graded = plan.graded_weight * torch.logsumexp(torch.cat([wrong, torch.zeros(1, device=device)]), 0)
        alike = scores >= POSITIVE_SCORE
        left, right, keys = left[alike], right[alike], keys[alike]
    logits = plan.scale * left @ right.T
    same = keys[:, None] == keys[None, :]
    logits = logits.masked_fill(same & ~torch.eye(len(keys), dtype=torch.bool, device=device), float("-inf"))
    target = torch.arange(len(keys), device=device)
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2 + graded


def _embed(table: torch.Tensor, batch: Batch, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors of both sides. The batch's distinct tokens are gathered once: half the time of two embedding bags."""
    import torch
    from torch.nn.functional import normalize

    flat = np.concatenate([batch.left.flat, batch.right.flat])
    texts = np.repeat(np.arange(2 * len(batch.keys)), np.concatenate([np.diff(batch.left.offsets), np.diff(batch.right.offsets)]))
    tokens, column = np.unique(flat, return_inverse=True)
    places = torch.from_numpy(np.stack([texts, column])).to(device)
    ones = torch.ones(len(flat), device=device)
    counts = torch.sparse_coo_tensor(places, ones, (2 * len(batch.keys), len(tokens)), check_invariants=False).coalesce()
    vectors = normalize(torch.sparse.mm(counts, table[torch.from_numpy(tokens.astype(np.int64)).to(device)]))
    return vectors[: len(batch.keys)], vectors[len(batch.keys) :]

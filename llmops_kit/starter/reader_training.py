"""The reader's network in torch, its loss, and its training loop. The same names and sums as `models.span_network`."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from llmops_kit.models.span_network import REACH, stack, summarise
from llmops_kit.models.span_ranker import CANDIDATES
from llmops_kit.models.spans import AROUND, DENSE, UNIT_BUCKETS
from llmops_kit.models.units import KINDS, SUFFIX_BUCKETS, Floats
from llmops_kit.starter.reader_rows import Example

_NOWHERE = -1e4
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReaderSize:
    """Widths and limits of the network; `longest` is the longest span in units."""

    words: int = 32
    endings: int = 8
    hidden: int = 64
    spans: int = 96
    longest: int = 30
    dropout: float = 0.2
    unit_dropout: float = 0.2


Batch = dict[str, Tensor]


def collate(examples: Sequence[Example]) -> Batch:
    """Pad examples to one batch."""
    rows, width, asked = len(examples), max(len(e.units) for e in examples), max(len(e.question.units) for e in examples)
    arrays = {name: np.zeros((rows, size), np.int64) for name, size in
              (("ids", width), ("suffixes", width), ("asked_ids", asked), ("asked_suffixes", asked), ("distance", asked), ("around", 2 * AROUND + 1))}
    arrays |= {"kinds": np.full((rows, width), KINDS), "asked_kinds": np.full((rows, asked), KINDS), "sentences": np.full((rows, width), -1)}
    dense, figures = np.zeros((rows, width, DENSE), np.float32), np.zeros((rows, 4), np.float32)
    for row, example in enumerate(examples):
        units, question = example.units, example.question
        size, count = len(units), len(question.units)
        arrays["ids"][row, :size], arrays["suffixes"][row, :size] = units.ids % UNIT_BUCKETS, units.suffixes
        arrays["kinds"][row, :size], arrays["sentences"][row, :size] = units.kinds, units.sentences
        arrays["asked_ids"][row, :count], arrays["asked_suffixes"][row, :count] = question.units.ids % UNIT_BUCKETS, question.units.suffixes
        arrays["asked_kinds"][row, :count] = question.units.kinds
        distance, around = stack(question)
        arrays["distance"][row, :count], arrays["around"][row] = distance, np.where(around == count, asked, around)
        dense[row, :size] = example.dense
        figures[row] = summarise(dense[row, :size])
    batch = {name: torch.from_numpy(value) for name, value in arrays.items()}
    return batch | {"dense": torch.from_numpy(dense), "figures": torch.from_numpy(figures),
                    "mask": batch["sentences"] >= 0, "asked_mask": batch["asked_kinds"] < KINDS}


def _pick(values: Tensor, index: Tensor) -> Tensor:
    return torch.gather(values, 1, index.unsqueeze(-1).expand(-1, -1, values.shape[2]))


class ReaderNetwork(nn.Module):
    """See `models.span_network`: start and end scores for every unit, a score for the best spans, a score for absence."""

    def __init__(self, size: ReaderSize, vectors: Floats | None = None) -> None:
        super().__init__()
        self.size = size
        token, hidden, spans = size.words + 2 * size.endings, size.hidden, size.spans
        self.unit, self.suffix = nn.Embedding(UNIT_BUCKETS, size.words), nn.Embedding(SUFFIX_BUCKETS, size.endings)
        self.kind = nn.Embedding(KINDS + 1, size.endings)
        for table, spread in ((self.unit, 0.1), (self.suffix, 0.1), (self.kind, 0.3)):
            nn.init.normal_(table.weight, std=spread)
        self.x = nn.Linear(token + DENSE + size.words, hidden)
        self.around, self.mean = nn.Linear((2 * AROUND + 1) * token, hidden), nn.Linear(token, hidden, bias=False)
        self.film = nn.Linear(hidden, 2 * hidden)
        self.att_k, self.att_pos = nn.Linear(size.words, size.words, bias=False), nn.Embedding(2 * REACH + 1, size.words)
        nn.init.zeros_(self.att_pos.weight)
        self.conv1, self.conv2 = nn.Conv1d(hidden, hidden, 5, padding=2), nn.Conv1d(hidden, hidden, 5, padding=6, dilation=3)
        self.se = nn.Linear(hidden, 2)
        self.first, self.last, self.inside = nn.Linear(hidden, spans), nn.Linear(hidden, spans, bias=False), nn.Linear(hidden, spans, bias=False)
        self.length = nn.Embedding(size.longest + 1, spans)
        nn.init.normal_(self.length.weight, std=0.1)
        self.ask, self.gate, self.mid, self.out = nn.Linear(hidden, spans), nn.Linear(hidden, spans), nn.Linear(spans, spans), nn.Linear(spans, 1)
        self.null = nn.Sequential(nn.Linear(2 * hidden + 6, 32), nn.ReLU(), nn.Linear(32, 1))
        if vectors is not None:
            # Attention begins as similarity of meaning: 10 x the product of two vectors of length about 0.4.
            self.unit.weight.data = torch.from_numpy(vectors).float()
            self.att_k.weight.data = 10 * torch.eye(size.words) + 0.05 * torch.randn(size.words, size.words)

    def forward(self, batch: Batch, gold: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(start and end scores, span scores, first units, last units, absence score); slot 0 is `gold` where given."""
        hidden, asked = self._read(batch)
        drop = functional.dropout(hidden, self.size.dropout, self.training)
        ends = self.se(drop).masked_fill(~batch["mask"].unsqueeze(-1), _NOWHERE)
        first, last, valid = self._propose(batch, ends.detach(), gold)
        total = torch.cat([torch.zeros(len(hidden), 1, self.size.spans), self.inside(hidden).cumsum(1)], 1)
        length = last - first + 1
        value = _pick(self.first(drop), first) + _pick(self.last(drop), last) + (_pick(total, last + 1) - _pick(total, first)) / length.unsqueeze(-1)
        value = value + self.length(length) + self.ask(asked).unsqueeze(1)
        value = functional.dropout(torch.relu(value * (1 + self.gate(asked).unsqueeze(1))), self.size.dropout, self.training)
        scores = self.out(torch.relu(self.mid(value))).squeeze(-1) + torch.gather(ends[..., 0], 1, first) + torch.gather(ends[..., 1], 1, last)
        scores = scores.masked_fill(~valid, _NOWHERE)
        # What is learnt about absence must not move what is learnt about spans: hence detach.
        real = scores.detach()
        pool = hidden.masked_fill(~batch["mask"].unsqueeze(-1), _NOWHERE).max(1).values
        figures = torch.cat([batch["figures"], torch.logsumexp(real, 1, keepdim=True) / 10, real.max(1, keepdim=True).values / 10], 1)
        return ends, scores, first, last, self.null(torch.cat([pool.detach(), asked.detach(), figures], 1))[:, 0]

    def _tokens(self, ids: Tensor, suffixes: Tensor, kinds: Tensor, *, drop: bool) -> tuple[Tensor, Tensor]:
        words = self.unit(ids)
        if drop and self.training:
            words = words * (torch.rand(ids.shape) > self.size.unit_dropout).unsqueeze(-1)
        return words, torch.cat([words, self.suffix(suffixes), self.kind(kinds)], -1)

    def _read(self, batch: Batch) -> tuple[Tensor, Tensor]:
        words, tokens = self._tokens(batch["ids"], batch["suffixes"], batch["kinds"], drop=True)
        asked_words, asked_tokens = self._tokens(batch["asked_ids"], batch["asked_suffixes"], batch["asked_kinds"], drop=False)
        mask = batch["asked_mask"]
        around = _pick(torch.cat([asked_tokens, torch.zeros_like(asked_tokens[:, :1])], 1), batch["around"]).flatten(1)
        mean = (asked_tokens * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
        asked = functional.dropout(torch.tanh(self.around(around) + self.mean(mean)), self.size.dropout, self.training)
        shares = torch.softmax(words @ self.att_k(asked_words).transpose(1, 2) + (~mask).unsqueeze(1) * _NOWHERE, -1)
        attention = shares @ (asked_words + self.att_pos(batch["distance"]))
        scale, shift = self.film(asked).unsqueeze(1).chunk(2, -1)
        inside = batch["mask"].unsqueeze(-1).float()
        hidden = torch.relu(self.x(torch.cat([tokens, batch["dense"], attention], -1)) * (1 + scale) + shift) * inside
        hidden = functional.dropout(hidden, self.size.dropout, self.training)
        for layer in (self.conv1, self.conv2):
            hidden = hidden + torch.relu(layer(hidden.transpose(1, 2)).transpose(1, 2)) * inside
        return hidden, asked

    @torch.no_grad()
    def _propose(self, batch: Batch, ends: Tensor, gold: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        width, longest = ends.shape[1], self.size.longest
        last = torch.arange(width).view(-1, 1) + torch.arange(longest).view(1, -1)
        inside = last < width
        last = last.clamp(max=width - 1)
        allowed = inside & (batch["sentences"].unsqueeze(2) == batch["sentences"][:, last]) & batch["mask"].unsqueeze(2)
        pairs = (ends[..., 0].unsqueeze(2) + ends[..., 1][:, last]).masked_fill(~allowed, 10 * _NOWHERE).flatten(1)
        kept = pairs.topk(min(CANDIDATES, pairs.shape[1]), 1).indices
        if gold is not None:
            kept = torch.cat([gold.clamp(min=0).unsqueeze(1), kept], 1)
        valid = torch.gather(pairs, 1, kept) > 9 * _NOWHERE
        if gold is not None:
            valid[:, 1:] &= kept[:, 1:] != gold.unsqueeze(1)
            valid[:, 0] = gold >= 0
        first = torch.div(kept, longest, rounding_mode="floor")
        return first, (first + kept % longest).clamp(max=width - 1), valid


def find_loss(network: ReaderNetwork, examples: Sequence[Example], random: Random) -> Tensor:
    """Half the boundary loss, the span loss (share of exact spans, expected overlap), and the absence loss."""
    longest = network.size.longest
    golds = [[pair for pair in example.golds if pair[1] - pair[0] < longest] for example in examples]
    chosen = [random.choice(pairs) if pairs else None for pairs in golds]
    gold = torch.tensor([pair[0] * longest + pair[1] - pair[0] if pair else -1 for pair in chosen])
    ends, scores, first, last, absent = network(collate(examples), gold)
    has = gold >= 0
    loss: Tensor = functional.binary_cross_entropy_with_logits(absent, (~has).float())
    if not bool(has.any()):
        return loss
    starts_at, ends_at = torch.tensor([pair or (0, 0) for pair in chosen]).T
    edges = functional.cross_entropy(ends[has, :, 0], starts_at[has]) + functional.cross_entropy(ends[has, :, 1], ends_at[has])
    reward = torch.zeros_like(scores)
    for slot in range(max(map(len, golds))):
        low, high = torch.tensor([pairs[slot] if slot < len(pairs) else (-9, -9) for pairs in golds]).T.unsqueeze(-1)
        overlap = (torch.minimum(last, high) - torch.maximum(first, low) + 1).clamp(min=0)
        reward = torch.maximum(reward, 2 * overlap / ((last - first + 1) + (high - low + 1)) * (low >= 0))
    shares = torch.log_softmax(scores, 1)
    exact = -torch.logsumexp(shares.masked_fill(reward < 0.999, _NOWHERE), 1)
    missed = 1 - (shares.exp() * reward).sum(1)
    return loss + 0.5 * edges + exact[has].mean() + 2 * missed[has].mean()


def train(network: ReaderNetwork, examples: Sequence[Example], *, epochs: int, rate: float, seed: int, batch: int = 32) -> float:
    """Train in place with AdamW and a linear decline; returns the CPU-seconds taken."""
    begun, random = time.process_time(), Random(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-2, betas=(0.9, 0.98))
    steps, step = epochs * -(-len(examples) // batch), 0
    network.train()
    for epoch in range(epochs):
        order, total = _batches(examples, batch, random), 0.0
        for rows in order:
            for group in optimiser.param_groups:
                group["lr"] = rate * min(1, (step + 1) / 200) * max(0.02, 1 - step / steps)
            loss = find_loss(network, [examples[row] for row in rows], random)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            step, total = step + 1, total + float(loss.detach())
        log.info("epoch %d: loss %.3f, %.0f CPU-s", epoch + 1, total / len(order), time.process_time() - begun)
    network.eval()
    return time.process_time() - begun


def _batches(examples: Sequence[Example], batch: int, random: Random) -> list[list[int]]:
    """Shuffled batches of examples of about the same length."""
    order = random.sample(range(len(examples)), len(examples))
    batches = []
    for start in range(0, len(order), batch * 40):
        block = sorted(order[start: start + batch * 40], key=lambda row: len(examples[row].units))
        batches += [block[place: place + batch] for place in range(0, len(block), batch)]
    random.shuffle(batches)
    return batches

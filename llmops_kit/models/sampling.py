"""Choosing the next token of every row of a batch in a few operations, each row by its own request's rules and random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from llmops_kit.models.requests import GenerationRequest

_GREEDY_BELOW = 1e-5  # a temperature this low is greedy decoding; dividing by it would overflow
_HEAD_TOKENS = 256  # the nucleus is looked for among this many best tokens first: sorting a whole vocabulary is the slowest step of all


class Sampler:
    """The sampling of one request, across its tokens: which tokens were seen, and random numbers of its own.

    The random numbers do not depend on what else runs in the batch, so a seed reproduces among other requests.
    """

    def __init__(self, request: GenerationRequest) -> None:
        self.request = request
        self.greedy = request.temperature < _GREEDY_BELOW
        self.cuts = bool(request.top_k) or request.top_p < 1
        self._seen = set(request.prompt_ids) if request.repetition_penalty != 1.0 else None
        self._random = Random(request.seed)

    def penalise(self, logits: torch.Tensor) -> None:
        """Apply the repetition penalty over prompt and answer (Keskar et al. 2019, CTRL) to this row's logits, in place."""
        if self._seen is None:
            return
        import torch

        seen = torch.tensor(sorted(self._seen), device=logits.device)
        values = logits[seen]
        logits[seen] = torch.where(values < 0, values * self.request.repetition_penalty, values / self.request.repetition_penalty)

    def draw(self) -> float:
        """The next random number, in [0, 1)."""
        return self._random.random()

    def note(self, token: int) -> None:
        """Remember a token that was chosen."""
        if self._seen is not None:
            self._seen.add(token)


def pick_tokens(samplers: Sequence[Sampler], logits: torch.Tensor) -> list[int]:
    """The next token of each row. `logits` are float32, `(rows, vocabulary)`, and are changed in place.

    In the order transformers uses: repetition penalty, temperature, top-k, then the nucleus top-p (Holtzman et al. 2020).
    """
    for row, sampler in enumerate(samplers):
        sampler.penalise(logits[row])
    tokens: list[int] = logits.argmax(-1).tolist()
    drawn = [row for row, sampler in enumerate(samplers) if not sampler.greedy]
    for cuts in (False, True):  # apart: who cuts draws from a sorted list, and a row must not draw otherwise because of its neighbours
        if rows := [row for row in drawn if samplers[row].cuts == cuts]:
            for row, token in zip(rows, _draw([samplers[row] for row in rows], logits[rows]), strict=True):
                tokens[row] = token
    for sampler, token in zip(samplers, tokens, strict=True):
        sampler.note(token)
    return tokens


def _draw(samplers: Sequence[Sampler], logits: torch.Tensor) -> list[int]:
    """One token of each row by the inverse of its distribution function at the row's random number. Either all rows cut (top-k, top-p), or none."""
    import torch

    def column(values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=logits.device)[:, None]

    asked = [sampler.request for sampler in samplers]
    logits = (logits - logits.amax(-1, keepdim=True)) / column([one.temperature for one in asked])
    numbers = column([sampler.draw() for sampler in samplers])
    candidates: torch.Tensor | None = None
    if samplers[0].cuts:
        vocabulary = logits.shape[1]
        ranks = [min(one.top_k, vocabulary) if one.top_k else vocabulary for one in asked]
        whole = logits.logsumexp(-1, keepdim=True)
        logits, candidates = _sort_head(logits, whole, ranks, [one.top_p for one in asked])
        logits = logits.masked_fill(torch.arange(logits.shape[1], device=logits.device) >= column(ranks), -torch.inf)
        whole = torch.where(column(ranks) < vocabulary, logits.logsumexp(-1, keepdim=True), whole)
        shares = (logits - whole).exp()
        before = shares.cumsum(-1) - shares
        logits = logits.masked_fill(before >= column([one.top_p for one in asked]), -torch.inf)
    shares = logits.softmax(-1)
    sums = shares.cumsum(-1)
    places = torch.searchsorted(sums, numbers * sums[:, -1:], right=True)
    last = (shares > 0).int().cumsum(-1).argmax(-1, keepdim=True)  # rounding must not lead beyond the last possible token
    places = torch.minimum(places, last)
    tokens: list[int] = (places if candidates is None else candidates.gather(1, places))[:, 0].tolist()
    return tokens


def _sort_head(logits: torch.Tensor, whole: torch.Tensor, ranks: Sequence[int], top_p: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """The best tokens of each row, best first, at least as many as any row's top-k and nucleus need; `whole` is the log of each row's sum."""
    import torch

    vocabulary = logits.shape[1]
    finite = [rank for rank in ranks if rank < vocabulary]
    head = min(vocabulary, max([_HEAD_TOKENS, *finite]))
    best, order = logits.topk(head)
    enough = (best - whole).exp().sum(-1).tolist()
    if all(rank < vocabulary or mass > share for rank, mass, share in zip(ranks, enough, top_p, strict=True)):
        return best, order
    best, order = torch.sort(logits, descending=True)
    return best, order

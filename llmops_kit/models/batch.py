"""The running batch on the tensor side: prompts are read, rows join, every row gets its next token, rows leave."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmops_kit.models.sampling import Sampler, pick_tokens

if TYPE_CHECKING:
    import torch

    from llmops_kit.models.adapters import AdapterRack

_ONE_THREAD_PRODUCTS = 2e7  # tokens times parameters of a step that one thread computes as fast as two (measured on two cores, starter-lm: 1 row against 4)
_SIMILAR = 1.5  # prompts are read together while the longest is at most this many times the shortest …
_SLACK_TOKENS = 16  # … and this many tokens more


@dataclass(eq=False)
class Row:
    """A request on the tensor side: its prompt and sampling, and once it runs how long it is and which token comes next."""

    prompt_ids: Sequence[int]
    sampler: Sampler
    adapter: str | None = None
    length: int = 0  # tokens in the cache
    unread: int = 0  # the token that was chosen last and is not in the cache yet
    past: Any = field(default=None, repr=False)  # the cache of a long prompt that is being read piece by piece
    is_finite: bool = True  # whether its last logits were numbers


class Network:
    """The forward pass of one model, with the parts of its interface that differ between architectures looked up once."""

    def __init__(self, model: Any, device: str, adapters: AdapterRack, *, threads: int = 0) -> None:
        if device == "cuda":
            import torch

            # cuDNN's attention plans every cache width anew, some 50 ms each, and here each step has another width.
            torch.backends.cuda.enable_cudnn_sdp(False)
        parameters = inspect.signature(model.forward).parameters
        self._model = model
        self._device = device
        self._adapters = adapters
        self._keeps_last = "logits_to_keep" in parameters
        self._takes_positions = "position_ids" in parameters
        config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
        self._parameters = sum(weight.numel() for weight in model.parameters())
        self._threads = threads
        self.layers = int(config.num_hidden_layers)
        self.vocabulary = int(config.vocab_size)
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.cell_bytes = 2 * self.layers * heads * head_size * next(model.parameters()).element_size()  # keys and values of a token

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any, adapters: Sequence[str | None], *, keep: int = 1
    ) -> torch.Tensor:
        """The logits of the last `keep` columns in float32, `(rows, keep, vocabulary)`. `cache` takes the new keys and values in."""
        extra: dict[str, Any] = {"logits_to_keep": keep} if self._keeps_last else {}
        if self._takes_positions:
            extra["position_ids"] = positions
        self._share_cores(ids.numel())
        with self._adapters.chosen(adapters):
            output = self._model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=cache is not None, **extra)
        logits: torch.Tensor = output.logits[:, -keep:].float()
        return logits

    def _share_cores(self, tokens: int) -> None:
        """A small step on one thread: several would wait for each other, and for the readers' threads, longer than they compute."""
        if self._device == "cpu":
            import torch

            wanted = 1 if tokens * self._parameters < _ONE_THREAD_PRODUCTS else self._threads or os.cpu_count() or 1
            if torch.get_num_threads() != wanted:
                torch.set_num_threads(wanted)

    def tensor(self, values: Any) -> torch.Tensor:
        """Whole numbers as a tensor where the model is."""
        import torch

        return torch.tensor(values, dtype=torch.long, device=self._device)


def pad_left(network: Network, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids with zeros on the left, their mask, and the position of each token in its own row."""
    width = max(map(len, rows))
    ids = network.tensor([[0] * (width - len(row)) + list(row) for row in rows])
    mask = network.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask, (mask.cumsum(-1) - 1).clamp(min=0)


def group_prompts(rows: Sequence[Row], budget: int) -> list[list[Row]]:
    """The rows to be read now, in groups of similar length whose padded tokens stay within `budget`; always at least one row.

    A prompt longer than the budget is a group of its own, and is read in pieces.
    """
    groups: list[list[Row]] = []
    used = 0
    for row in rows:
        unread = min(len(row.prompt_ids) - row.length, budget)
        if used and used + unread > budget:
            break
        used += unread
        shortest = min((len(other.prompt_ids) for other in groups[-1]), default=0) if groups else 0
        longest = max((len(other.prompt_ids) for other in groups[-1]), default=0) if groups else 0
        alone = row.past is not None or unread < len(row.prompt_ids) or (groups and len(groups[-1][0].prompt_ids) > budget)
        fits = groups and max(longest, len(row.prompt_ids)) <= _SIMILAR * min(shortest, len(row.prompt_ids)) + _SLACK_TOKENS
        if fits and not alone:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def read_prompts(network: Network, rows: Sequence[Row], budget: int) -> Any:
    """Read a group's prompts, or the next piece of a single long one. Rows that are read to the end have their first token chosen.

    Gives the cache of the group, whose rows are in order and flush right.
    """
    from transformers import DynamicCache

    first = rows[0]
    if len(rows) == 1 and (first.past is not None or len(first.prompt_ids) > budget):
        return _read_piece(network, first, budget)
    cache = DynamicCache()
    ids, mask, positions = pad_left(network, [row.prompt_ids for row in rows])
    logits = network.forward(ids, mask, positions, cache, [row.adapter for row in rows])[:, -1]
    for row in rows:
        row.length = len(row.prompt_ids)
    choose(rows, logits)
    return cache


def _read_piece(network: Network, row: Row, budget: int) -> Any:
    from transformers import DynamicCache

    row.past = row.past or DynamicCache()
    piece = row.prompt_ids[row.length : row.length + budget]
    seen = row.length + len(piece)
    positions = network.tensor([range(row.length, seen)])
    logits = network.forward(network.tensor([piece]), network.tensor([[1] * seen]), positions, row.past, [row.adapter])[:, -1]
    row.length = seen
    cache = row.past
    if seen == len(row.prompt_ids):
        choose([row], logits)
        row.past = None
    return cache


def choose(rows: Sequence[Row], logits: torch.Tensor) -> None:
    """Choose each row's next token from its logits."""
    import torch

    finite = torch.isfinite(logits.amax(-1))
    if not bool(finite.all()):
        for row, good in zip(rows, finite.tolist(), strict=True):
            row.is_finite = good
        logits = torch.where(finite[:, None], logits, torch.zeros_like(logits))
    for row, token in zip(rows, pick_tokens([row.sampler for row in rows], logits), strict=True):
        row.unread = token


class Lane:
    """Rows of similar final length that take every step together. Rows of a lane share the width of the longest, so very long ones have a lane of their own."""

    def __init__(self, network: Network) -> None:
        from llmops_kit.models.slab_cache import SlabCache

        self._network = network
        self._cache = SlabCache(network.layers)
        self.rows: list[Row] = []

    @property
    def cells(self) -> int:
        """Places for a token in the cache: rows times width."""
        return self._cache.rows * self._cache.width

    def join(self, row: Row, cache: Any, place: int) -> None:
        """Take a row in whose prompt was read into row `place` of `cache`."""
        self._cache.join([(layer.keys[place], layer.values[place]) for layer in cache.layers], row.length)
        self.rows.append(row)

    def leave(self, row: Row) -> None:
        """Let a row go; the last one takes its place."""
        place = self.rows.index(row)
        self._cache.leave(place, wipe=not row.is_finite)
        self.rows[place] = self.rows[-1]
        self.rows.pop()
        if self.rows:
            self._cache.narrow(max(other.length for other in self.rows))

    def step(self) -> None:
        """One more token for every row."""
        import torch

        cache, rows, network = self._cache, self.rows, self._network
        cache.prepare_step()
        lengths = network.tensor([row.length for row in rows])[:, None]
        columns = torch.arange(cache.width + 1, device=lengths.device)
        mask = (columns >= cache.width - lengths).long()
        ids = network.tensor([[row.unread] for row in rows])
        logits = network.forward(ids, mask, lengths, cache, [row.adapter for row in rows])[:, -1]
        cache.advance()
        for row in rows:
            row.length += 1
        choose(rows, logits)

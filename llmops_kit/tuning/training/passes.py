"""Forward and backward passes of a step: rows in, loss and gradients out. Imports torch: for use inside functions."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from llmops_kit.tuning.training.attention import separate_rows
from llmops_kit.tuning.training.batches import Batch, Row, make_batch, split_rows
from llmops_kit.tuning.training.loss import CountedLoss, measure_positions
from llmops_kit.tuning.training.place import Place

_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}
"""Largest difference of a logit, over the largest logit, that rounding explains."""

_EVEN_TOKENS = 32


@dataclass(frozen=True)
class Passes:
    """How a model is computed. `packed`: rows side by side without padding; else padded to the longest of a pass, with a mask.

    `at_once`: with torch's attention for rows of different lengths, which CUDA has. `casts`: some layers need mixed number formats seen to.
    """

    model: Any
    place: Place
    pad: int
    packed: bool
    casts: bool = False
    at_once: bool = False

    @classmethod
    def choose(cls, model: Any, place: Place, pad: int, rows: Sequence[Row], *, packing: bool, casts: bool) -> Passes:
        """Packed where `packing` and the model computes packed rows as it computes them alone, which is tried on some of `rows`."""
        ways = [place.kind == "cuda" and place.dtype == "bfloat16", False] if packing else []
        for at_once in dict.fromkeys(ways):
            packed = cls(model, place, pad, True, casts, at_once)
            if packed._keeps_apart(sorted(rows, key=lambda row: len(row.ids))):
                return packed
        return cls(model, place, pad, False, casts)

    def train(self, rows: Sequence[Row], total: float, *, wrapped: Any = None, scale: float = 1.0) -> float:
        """Add the gradients of Σ loss · scale / total to the adapter; the sum of the losses over `total`.

        `wrapped` is the model with torch's gradient exchange between processes around it, which happens with the last pass.
        """
        model = wrapped if wrapped is not None else self.model
        parts = split_rows(rows, max_tokens=self.place.max_tokens, max_counted=self.place.max_counted)
        loss = torch.zeros((), device=self.place.device)
        with self._ready():
            for number, part in enumerate(parts):
                waits = number < len(parts) - 1 and hasattr(model, "no_sync")
                with model.no_sync() if waits else nullcontext(), self._cast():
                    batch = self._batch(part)
                    one = CountedLoss.apply(self._logits(model, batch), batch.targets, batch.weights) / total  # type: ignore[no-untyped-call]
                    (one * scale).backward()
                loss += one.detach()
        return float(loss)

    @torch.no_grad()
    def measure(self, rows: Sequence[Row]) -> tuple[list[float], list[int]]:
        """For each row the sum of its losses and how many of its counted tokens are the most likely ones. Weights count for nothing here."""
        losses, hits = [0.0] * len(rows), [0] * len(rows)
        places = {id(row): place for place, row in enumerate(rows)}
        with self._ready(), self._cast():
            for part in split_rows(rows, max_tokens=self.place.max_tokens, max_counted=self.place.max_counted):
                batch = self._batch(part)
                each, right = measure_positions(self._logits(self.model, batch), batch.targets)
                for owner, loss, hit in zip(batch.owners.tolist(), each.tolist(), right.tolist(), strict=True):
                    if owner < 0:
                        continue
                    losses[places[id(part[owner])]] += loss
                    hits[places[id(part[owner])]] += hit
        return losses, hits

    @torch.no_grad()
    def logits(self, rows: Sequence[Row]) -> Any:
        """The logits of the counted positions of all rows in one pass, in the order of the batch."""
        with self._ready(), self._cast():
            batch = self._batch(rows)
            return self._logits(self.model, batch)[batch.owners >= 0]

    def _batch(self, rows: Sequence[Row]) -> Batch:
        return make_batch(rows, pad=self.pad, device=self.place.device, padded=not self.packed, exact=self.at_once, multiple=self._multiple)

    @property
    def _multiple(self) -> int:
        """oneDNN, which multiplies in bfloat16 on a CPU, makes and keeps a program for each new size: 450 MB after 44 steps, 30 MB with few sizes."""
        return _EVEN_TOKENS if self.place.kind == "cpu" and self.place.dtype == "bfloat16" else 1

    def _logits(self, model: Any, batch: Batch) -> Any:
        if self.packed:
            given: dict[str, Any] = {"input_ids": batch.ids, "position_ids": batch.positions, "row_blocks": batch.blocks, "logits_to_keep": batch.kept}
            if self.at_once:
                ends = torch.tensor(batch.lengths, device=batch.ids.device).cumsum(0)
                given["row_starts"] = torch.nn.functional.pad(ends, (1, 0)).int()
            return model(**given, use_cache=False).logits[0]
        ((rows, width),) = batch.blocks
        ids = batch.ids.view(rows, width)
        lengths = torch.tensor(batch.lengths, device=ids.device)[:, None]
        mask = (torch.arange(width, device=ids.device)[None] < lengths).long()
        return model(input_ids=ids, attention_mask=mask, use_cache=False).logits.flatten(0, 1)[batch.kept]

    @contextmanager
    def _ready(self) -> Iterator[None]:
        with separate_rows(self._base) if self.packed else nullcontext():
            yield

    @property
    def _base(self) -> Any:
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    def _cast(self) -> AbstractContextManager[Any]:
        """Mixed number formats for layers that do not see to it themselves."""
        return torch.autocast(self.place.kind, torch.bfloat16) if self.casts and self.place.dtype == "bfloat16" else nullcontext()

    def _keeps_apart(self, rows: Sequence[Row]) -> bool:
        """Whether every layer's attention is computed row by row (a layer of another kind would carry something over), and the logits agree."""
        base = self._base
        if "logits_to_keep" not in inspect.signature(base.forward).parameters or not rows:
            return False
        layers: list[int] = []
        tried = [rows[0], rows[len(rows) // 2], rows[-1]]
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), separate_rows(base, called=lambda: layers.append(1)), self._cast():
                batch = self._batch(tried)
                together = self._logits(self.model, batch)[batch.owners >= 0]
            alone = torch.cat([Passes(self.model, self.place, self.pad, False, self.casts).logits([row]) for row in tried])
        except (ValueError, TypeError, RuntimeError, NotImplementedError):
            return False
        finally:
            self.model.train(was_training)
        if len(layers) != base.config.get_text_config().num_hidden_layers:
            return False
        worst = float((together.float() - alone.float()).abs().max() / alone.float().abs().max().clamp(min=1e-6))
        return worst <= _TOLERANCE[self.place.dtype]

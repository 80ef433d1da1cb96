"""The attention cache of a running batch: one slab per layer, rows flush right, so that requests join and leave between tokens.

Every row's newest token stands in the same column, whatever its length; a step appends one column for all rows. A row
that joins is copied in with its end at that column; a row that leaves gives its place to the last one. Nothing of the
others moves, and any model of transformers that generates left-padded batches can use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from transformers.cache_utils import Cache, CacheLayerMixin

if TYPE_CHECKING:
    import torch

COLUMN_STEP = 64  # columns a slab grows by: at least as many steps lie between two moves of its content
ROW_STEP = 8


class SlabLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer, tensors of `(rows, heads, columns, head size)` of which `cache.rows` and a window of columns are in use."""

    is_croppable = False

    def __init__(self, cache: SlabCache) -> None:
        super().__init__()
        self._cache = cache

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing to prepare: a slab gets its shape from the first row that joins."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new columns of all rows; give the whole window, the new columns included."""
        cache, new = self._cache, key_states.shape[-2]
        self.keys[: cache.rows, :, cache.end : cache.end + new] = key_states
        self.values[: cache.rows, :, cache.end : cache.end + new] = value_states
        window = slice(cache.start, cache.end + new)
        return self.keys[: cache.rows, :, window], self.values[: cache.rows, :, window]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns of the mask, and where they start."""
        return self._cache.width + query_length, 0

    def get_seq_length(self) -> int:
        """Columns in use."""
        return self._cache.width

    def get_max_length(self) -> int:
        """No limit of its own."""
        return -1


class SlabCache(Cache):  # type: ignore[misc]
    """The slabs of all layers, and which part of them is in use: rows `0..rows`, columns `start..end`."""

    def __init__(self, layers: int) -> None:
        self.rows = self.start = self.end = 0
        super().__init__(layers=[SlabLayer(self) for _ in range(layers)])

    @property
    def width(self) -> int:
        """Columns in use: the length of the longest row, or a little more."""
        return self.end - self.start

    def join(self, pieces: Sequence[tuple[torch.Tensor, torch.Tensor]], length: int) -> None:
        """Add a row at the end: `pieces` are keys and values per layer, `(heads, at least length, head size)`, whose last `length` columns count."""
        self._make_room(rows=self.rows + 1, width=max(self.width, length), like=pieces)
        for layer, (keys, values) in zip(self.layers, pieces, strict=True):
            layer.keys[self.rows, :, self.end - length : self.end] = keys[:, keys.shape[1] - length :]
            layer.values[self.rows, :, self.end - length : self.end] = values[:, values.shape[1] - length :]
        self.start = min(self.start, self.end - length)
        self.rows += 1

    def leave(self, row: int, *, wipe: bool = False) -> None:
        """Take a row out; the last one takes its place. `wipe` where its numbers are not finite: 0 times NaN would be NaN for who comes after."""
        last = self.rows - 1
        for layer in self.layers if wipe else ():
            layer.keys[row].zero_()
            layer.values[row].zero_()
        if row != last:
            for layer in self.layers:
                layer.keys[row, :, self.start : self.end] = layer.keys[last, :, self.start : self.end]
                layer.values[row, :, self.start : self.end] = layer.values[last, :, self.start : self.end]
        self.rows = last
        if not last:
            self.start = self.end = 0
            for layer in self.layers:
                layer.keys = layer.values = None  # memory goes back between rushes

    def narrow(self, longest: int) -> None:
        """Give up the columns on the left that no row of `longest` tokens or fewer uses."""
        self.start = max(self.start, self.end - longest)

    def advance(self) -> None:
        """Count the column that a forward pass wrote, and see that there is one more."""
        self.end += 1

    def prepare_step(self) -> None:
        """See to it that there is a column for the next token."""
        first = self.layers[0].keys
        if first is not None and self.end >= first.shape[2]:
            self._make_room(rows=self.rows, width=self.width, like=[(layer.keys[0], layer.values[0]) for layer in self.layers])

    def _make_room(self, *, rows: int, width: int, like: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Let `rows` rows and `width` columns and one more fit, moving what is there where they do not."""
        have = self.layers[0].keys
        if have is not None and rows <= have.shape[0] and width <= self.end < have.shape[2]:
            return
        keep_rows = 0 if have is None else have.shape[0]
        rows = max(keep_rows, -(-rows // ROW_STEP) * ROW_STEP if rows > ROW_STEP else 1 << (rows - 1).bit_length())
        columns = (width // COLUMN_STEP + 1) * COLUMN_STEP + COLUMN_STEP
        for layer, (keys, values) in zip(self.layers, like, strict=True):
            layer.keys = self._moved(layer.keys, keys, rows=rows, columns=columns, end=width)
            layer.values = self._moved(layer.values, values, rows=rows, columns=columns, end=width)
        self.start, self.end = width - self.width, width

    def _moved(self, old: torch.Tensor | None, like: torch.Tensor, *, rows: int, columns: int, end: int) -> torch.Tensor:
        # Zeros, not whatever lay in memory: a masked column still takes part in the sum, with weight 0, and 0 times NaN is NaN.
        fresh = like.new_zeros((rows, like.shape[0], columns, like.shape[2]))
        if old is not None and self.rows:
            fresh[: self.rows, :, end - self.width : end] = old[: self.rows, :, self.start : self.end]
        return fresh

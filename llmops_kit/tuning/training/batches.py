"""Rows as tensors: side by side without padding, and which positions the loss is computed on.

A row's last token is never an input (nothing is to be written after it). The positions that count are those before a counted token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from llmops_kit.models.turns import EncodedRow

Blocks = tuple[tuple[int, int], ...]
_LONGER_TOKENS = 8
"""Rows up to so many tokens shorter than the longest of their block are filled up. Measured on two cores: blocks of exactly equal rows make
more and smaller products in the attention and are slower; blocks that pad more cost more in every layer."""


@dataclass(frozen=True)
class Row:
    """A training row: its ids, which of them count, how much it weighs, and the place of its example."""

    ids: tuple[int, ...]
    counted: tuple[bool, ...]
    weight: float
    example: int

    @property
    def counts(self) -> int:
        """Tokens the loss is computed on."""
        return sum(self.counted[1:])


@dataclass(frozen=True)
class Batch:
    """What one forward pass gets. `blocks` are (rows, width) pairs that lie one after the other in `ids`, of shape (1, tokens);
    `lengths` says how much of each row's width is filled.

    `kept` are the positions the loss is computed on, `targets` the tokens that follow them, `weights` what each counts, `owners` the row
    (its place in the list given) each belongs to.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    blocks: Blocks
    lengths: tuple[int, ...]
    kept: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    owners: torch.Tensor


def make_row(encoded: EncodedRow, max_tokens: int, *, weight: float, example: int) -> Row | None:
    """A training row cut to `max_tokens`; None where nothing of it counts."""
    cut = encoded.cut(max_tokens)
    row = Row(cut.ids, cut.counted, weight, example)
    return row if row.counts else None


def make_batch(rows: Sequence[Row], *, pad: int, device: str, padded: bool = False, exact: bool = False, multiple: int = 1) -> Batch:
    """The rows, shortest first, in blocks of about equal length; `padded`: in one block as wide as the longest; `exact`: nothing is filled up.

    Tokens, and positions that count, are filled up to a `multiple`, by a last block that is nobody's and positions of no weight (owner -1).
    """
    import torch

    places = sorted(range(len(rows)), key=lambda place: len(rows[place].ids))
    groups = [places] if padded else _group(rows, places, 0 if exact else _LONGER_TOKENS)
    ids: list[int] = []
    positions: list[int] = []
    kept: list[int] = []
    targets: list[int] = []
    weights: list[float] = []
    owners: list[int] = []
    blocks: list[tuple[int, int]] = []
    lengths: list[int] = []
    for group in groups:
        width = max(len(rows[group[-1]].ids) - 1, 1)
        blocks.append((len(group), width))
        for place in group:
            row, start = rows[place], len(ids)
            read = row.ids[: min(width, len(row.ids) - 1)]
            lengths.append(len(read))
            ids += read + (pad,) * (width - len(read))
            positions += range(width)
            for number, counts in enumerate(row.counted[1:]):
                if counts:
                    kept.append(start + number)
                    targets.append(row.ids[number + 1])
                    weights.append(row.weight)
                    owners.append(place)

    if (missing := -len(ids) % multiple) and not padded:
        blocks.append((1, missing))
        lengths.append(missing)
        ids += [pad] * missing
        positions += range(missing)
    missing = -len(kept) % multiple
    kept, targets, owners = kept + [0] * missing, targets + [0] * missing, owners + [-1] * missing
    weights += [0.0] * missing

    def tensor(values: list[int]) -> torch.Tensor:
        return torch.tensor(values, device=device)

    return Batch(
        ids=tensor(ids)[None],
        positions=tensor(positions)[None],
        blocks=tuple(blocks),
        lengths=tuple(lengths),
        kept=tensor(kept),
        targets=tensor(targets),
        weights=torch.tensor(weights, dtype=torch.float32, device=device),
        owners=tensor(owners),
    )


def split_rows(rows: Sequence[Row], *, max_tokens: int, max_counted: int) -> list[list[Row]]:
    """The rows of a step in as few parts as fit: at most so many tokens, of which so many count, unless one row alone has more."""
    parts: list[list[Row]] = []
    tokens = counted = 0
    for row in sorted(rows, key=lambda row: len(row.ids)):
        if not parts or tokens + len(row.ids) > max_tokens or counted + row.counts > max_counted:
            parts.append([])
            tokens = counted = 0
        parts[-1].append(row)
        tokens += len(row.ids)
        counted += row.counts
    return parts


def share_rows(rows: Sequence[Row], rank: int, processes: int) -> list[Row]:
    """The rows of a step that one of several processes computes: dealt out by length, back and forth; never none.

    Where there are fewer rows than processes, the others get one that weighs nothing, because all have to take part.
    """
    if processes == 1:
        return list(rows)
    ordered = sorted(rows, key=lambda row: -len(row.ids))
    dealt = [row for number, row in enumerate(ordered) if _hand(number, processes) == rank]
    return dealt or [Row(ordered[-1].ids, ordered[-1].counted, 0.0, ordered[-1].example)]


def _hand(number: int, processes: int) -> int:
    turn, place = divmod(number, processes)
    return place if turn % 2 == 0 else processes - 1 - place


def _group(rows: Sequence[Row], places: Sequence[int], longer: int) -> list[list[int]]:
    groups: list[list[int]] = []
    for place in places:
        if not groups or len(rows[place].ids) - len(rows[groups[-1][0]].ids) > longer:
            groups.append([])
        groups[-1].append(place)
    return groups

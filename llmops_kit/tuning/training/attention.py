"""Attention in which rows that lie one after the other do not see each other, computed row by row and not with a mask over all of them.

A mask over a pack of n tokens costs n² numbers and most of the products it forbids. Here each block of rows of one width is a batch of
its own for torch's attention; everything else of the model runs on all tokens at once, without padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from llmops_kit.tuning.training.batches import Blocks

_NAME = "rows"
_UNKNOWN = ("softcap", "s_aux", "position_bias")
"""What some models' attention has besides a scale, and torch's does not."""


@contextmanager
def separate_rows(model: Any, *, called: Callable[[], None] | None = None) -> Iterator[None]:
    """Within: a forward pass of `model` that is given `row_blocks` keeps its rows apart. Any other pass (generation) belongs outside.

    `called` is told of each layer whose attention is computed here.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    def tell(*given: Any, **more: Any) -> tuple[torch.Tensor, None]:
        called()  # type: ignore[misc]
        return attend(*given, **more)

    AttentionInterface.register(_NAME, attend if called is None else tell)
    AttentionMaskInterface.register(_NAME, _no_mask)
    before = model.config._attn_implementation
    model.set_attn_implementation(_NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    row_blocks: Blocks = (),
    row_starts: torch.Tensor | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each row. Tensors are (1, heads, tokens, width), as transformers hands them to an attention function.

    With `row_starts` (where each row begins, and the end) it is one call of torch's kernel for rows of different lengths (CUDA, 16 bits).

    Raises:
        ValueError: the layer's attention is of a kind that is not computed here; the caller pads instead.
    """
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    window = more.get("sliding_window")
    if not row_blocks or any(more.get(name) is not None for name in _UNKNOWN) or (window is not None and max(width for _, width in row_blocks) > window):
        raise ValueError("this layer's attention cannot be computed row by row")
    if query.shape[2] != sum(rows * width for rows, width in row_blocks):
        raise ValueError("the model changed the number of tokens")
    if row_starts is not None:
        return _attend_at_once(query, key, value, row_starts, max(width for _, width in row_blocks), scaling), None
    given = query.dtype
    if query.device.type == "cpu":  # its kernel is four times as slow backwards in bfloat16 as in float32
        query, key, value = query.float(), key.float(), value.float()
    heads, groups = query.shape[1], query.shape[1] != key.shape[1]
    sizes = [rows * width for rows, width in row_blocks]
    parts = [torch.split(tensor.transpose(1, 2)[0], sizes) for tensor in (query, key, value)]
    out = []
    for (rows, width), part_q, part_k, part_v in zip(row_blocks, *parts, strict=True):
        q, k, v = (part.reshape(rows, width, *part.shape[1:]).transpose(1, 2) for part in (part_q, part_k, part_v))
        seen = scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=groups)
        out.append(seen.transpose(1, 2).reshape(rows * width, heads, -1))
    return torch.cat(out).to(given)[None], None


def _attend_at_once(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, starts: torch.Tensor, longest: int, scaling: float | None) -> torch.Tensor:
    import inspect

    from torch.nn.attention import varlen

    attention: Any = varlen.varlen_attn
    known = inspect.signature(attention).parameters  # torch 2.13 has other words for some of them than torch 2.11
    causal: dict[str, Any] = {"window_size": (-1, 0)} if "window_size" in known else {"is_causal": True}
    if query.shape[1] != key.shape[1]:
        if "enable_gqa" in known:
            causal["enable_gqa"] = True
        else:
            key, value = (each.repeat_interleave(query.shape[1] // each.shape[1], dim=1) for each in (key, value))
    rows = [each.transpose(1, 2)[0].contiguous() for each in (query, key, value)]
    seen: torch.Tensor = attention(*rows, starts, starts, longest, longest, scale=scaling, **causal)
    return seen[None]


def _no_mask(*_: Any, **__: Any) -> None:
    return None

"""The loss on the counted positions. Imports torch: for use inside functions."""

from __future__ import annotations

from typing import Any

import torch

_PART_NUMBERS = 1 << 22
"""Logits looked at in one go, in float32: 16 MB; on a GPU, which wants fewer and larger pieces, 16 times as many."""


class CountedLoss(torch.autograd.Function):
    """Σ wᵢ · (log Σⱼ exp zᵢⱼ - zᵢₜ): weighted cross-entropy. The gradient is written over the logits, which nobody else reads.

    Cross-entropy as torch has it keeps the logits, their float32 copy, their log-softmax and its gradient: four times the vocabulary for
    each position. Here it is one.
    """

    @staticmethod
    def forward(ctx: Any, logits: Any, targets: Any, weights: Any) -> Any:
        """`logits` (positions, vocabulary), `targets` and `weights` (positions)."""
        total = torch.zeros((), dtype=torch.float32, device=logits.device)
        gradient = logits.detach()
        part = _part(logits)
        for start in range(0, len(targets), part):
            piece = gradient[start : start + part]
            gold, weight = targets[start : start + part, None], weights[start : start + part]
            high = piece.float()
            whole = high.logsumexp(-1, keepdim=True)
            total += ((whole - high.gather(1, gold))[:, 0] * weight).sum()
            high = high.sub(whole).exp_()
            high.scatter_add_(1, gold, torch.full_like(whole, -1.0))
            piece.copy_(high.mul_(weight[:, None]))
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        """The gradient of the logits."""
        (of_logits,) = ctx.saved_tensors
        return of_logits.mul_(gradient), None, None


def measure_positions(logits: Any, targets: Any) -> tuple[Any, Any]:
    """Cross-entropy of each position, in float32, and whether the most likely token is the right one."""
    losses, hits = [], []
    part = _part(logits)
    for start in range(0, len(targets), part):
        high = logits[start : start + part].float()
        losses.append(torch.nn.functional.cross_entropy(high, targets[start : start + part], reduction="none"))
        hits.append(high.argmax(-1) == targets[start : start + part])
    return torch.cat(losses), torch.cat(hits)


def _part(logits: Any) -> int:
    return max(16, _PART_NUMBERS * (16 if logits.is_cuda else 1) // int(logits.shape[1]))

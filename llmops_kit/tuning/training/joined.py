"""A frozen linear layer with a LoRA adapter as one operation. Imports torch: for use inside functions."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import linear


class Joined(torch.autograd.Function):
    """y = x Wᵀ + b + s (d Aᵀ) Bᵀ, where d is x or x with dropout (Hu et al. 2021, section 4.1). W and b are frozen.

    Products run in the number format of x, sums of the adapter's gradients too; the gradients come back in the format of A and B.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, dropped: Any, weight: Any, bias: Any, down: Any, up: Any, scale: float) -> Any:
        """`down` is A (rank, inputs), `up` is B (outputs, rank); `dropped` None: no dropout."""
        flat = x.reshape(-1, x.shape[-1])
        source = flat if dropped is None else dropped.reshape(-1, x.shape[-1])
        inner = source @ down.to(x.dtype).t()
        out = linear(flat, weight, bias)
        out.addmm_(inner, up.to(x.dtype).t(), alpha=scale)
        ctx.save_for_backward(source, inner, weight, down, up)
        ctx.scale, ctx.shape, ctx.drops = scale, x.shape, dropped is not None
        return out.view(*x.shape[:-1], out.shape[-1])

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        """Gradients of x, dropped, A and B."""
        source, inner, weight, down, up = ctx.saved_tensors
        flat = gradient.reshape(-1, gradient.shape[-1])
        through = (flat @ up.to(flat.dtype)).mul_(ctx.scale)
        of_up = (flat.t() @ inner).mul_(ctx.scale).to(up.dtype)
        of_down = (through.t() @ source).to(down.dtype)
        of_x = of_dropped = None
        if ctx.needs_input_grad[0]:
            of_x = flat @ weight
            if not ctx.drops:
                of_x.addmm_(through, down.to(flat.dtype))
            of_x = of_x.view(ctx.shape)
        if ctx.drops and ctx.needs_input_grad[1]:
            of_dropped = (through @ down.to(flat.dtype)).view(ctx.shape)
        return of_x, of_dropped, None, None, of_down, of_up, None

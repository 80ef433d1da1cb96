"""The network: a small Llama with induction heads written into its first two layers before training starts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM
    from transformers.models.llama.modeling_llama import LlamaAttention


@dataclass(frozen=True)
class Size:
    """A model size. `hidden` must be `heads * 64`; the first half of the hidden dimensions carries the token."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    context_tokens: int = 2048
    rope_theta: float = 1e7


SIZES = {
    "small": Size(hidden=192, layers=4, heads=3, feed_forward=512),
    "large": Size(hidden=320, layers=8, heads=5, feed_forward=640),  # 22 MB in bfloat16: what the other weights leave of the 40 MB
    "largest": Size(hidden=384, layers=8, heads=6, feed_forward=1024),  # 35 MB in bfloat16: too much beside the embedder
}
HEAD = 64  # dimensions of an attention head
TOKEN_STD = 0.1
CONSTANT = 0.5  # the constant component every embedding shares; position-only heads read it
COPY_GAIN = 3.0  # length of a copied token beside the current one; more drowns what later layers have to say
FAST_PAIRS = 10  # rotary pairs that tell neighbouring positions apart
SLOW_FREQUENCY = 2e-3  # radians per token: rotary pairs slower than this hardly notice the distance


def build_model(size: Size, tokenizer: Tokenizer, *, seed: int) -> LlamaForCausalLM:
    """A fresh float32 model with tied embeddings and hand-written induction heads."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=size.hidden,
        intermediate_size=size.feed_forward,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=size.context_tokens,
        rope_parameters={"rope_type": "default", "rope_theta": size.rope_theta},
        tie_word_embeddings=True,
        bos_token_id=tokenizer.token_to_id("<s>"),
        eos_token_id=tokenizer.token_to_id("</s>"),
        pad_token_id=tokenizer.token_to_id("<pad>"),
        rms_norm_eps=1e-5,
    )
    model = LlamaForCausalLM(config).float()
    with torch.no_grad():
        _write_plain_layers(model)
        _write_embeddings(model, tokenizer)
        _write_induction(model, size)
    return model


def _write_plain_layers(model: LlamaForCausalLM) -> None:
    """Random inner weights, silent outputs: at the start only the induction heads speak."""
    import torch

    for layer in model.model.layers:
        for weight in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj, layer.mlp.gate_proj, layer.mlp.up_proj):
            torch.nn.init.normal_(weight.weight, std=weight.weight.shape[1] ** -0.5)
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)


def _write_embeddings(model: LlamaForCausalLM, tokenizer: Tokenizer) -> None:
    """Random tokens in the first half of the dimensions; spellings of one thing start close together.

    A word with and without its leading space, in upper and lower case, or a kana in both scripts share part of their
    vector, so that copying survives the change of form.
    """
    import torch

    table = model.model.embed_tokens.weight
    width = table.shape[1] // 2 - 1
    table.zero_()
    vocabulary = tokenizer.get_vocab()
    for token, number in sorted(vocabulary.items(), key=lambda item: (item[0].startswith("▁"), item[1])):
        fresh = torch.randn(width) * TOKEN_STD
        related, share = _related(token, vocabulary)
        if related is not None and bool(table[related].any()):
            fresh = share * table[related, :width] + math.sqrt(1 - share**2) * fresh
        table[number, :width] = fresh * (TOKEN_STD * math.sqrt(width) / fresh.norm())  # equal lengths keep the constant constant
        table[number, width] = CONSTANT


def _related(token: str, vocabulary: dict[str, int]) -> tuple[int | None, float]:
    if token.startswith("▁") and len(token) > 1 and token[1:] in vocabulary:
        return vocabulary[token[1:]], 0.8
    if token.lower() != token and token.lower() in vocabulary:
        return vocabulary[token.lower()], 0.5
    if token.upper() != token and token.upper() in vocabulary:
        return vocabulary[token.upper()], 0.5
    if len(token) == 1 and "ァ" <= token <= "ヶ":
        return vocabulary.get(chr(ord(token) - 0x60)), 0.5
    return None, 0.0


def _write_induction(model: LlamaForCausalLM, size: Size) -> None:
    """Layer 0 carries the previous 1, 2 and 3 tokens along; layer 1 finds where they stood before and copies what followed.

    A head that looks a fixed distance back needs only positions: its query and key read the constant component, turned
    by `-distance * frequency` in each rotary pair. A head that compares contents uses only the slow rotary pairs.
    """
    import torch

    width = size.hidden // 2 - 1
    slot = size.hidden // 6
    sketch = torch.linalg.qr(torch.randn(width, width))[0][:slot] * math.sqrt(width / slot)  # a token in `slot` dimensions
    _write_memory(model.model.layers[0].self_attn, size, sketch)
    _write_matching(model.model.layers[1].self_attn, size, sketch)


def _frequencies(size: Size) -> list[float]:
    """Radians per token of each rotary pair; pair `i` of a head is its dimensions `i` and `i + 32`."""
    return [size.rope_theta ** (-2 * pair / HEAD) for pair in range(HEAD // 2)]


def _write_memory(attention: LlamaAttention, size: Size, sketch: torch.Tensor) -> None:
    """Heads 0 to 2 write a sketch of the token 1, 2 and 3 places back into a slot of the second half each."""
    import torch

    half, (slot, width) = size.hidden // 2, sketch.shape
    gain = math.sqrt(size.hidden / (width * TOKEN_STD**2 + CONSTANT**2))  # what the layer's normalisation multiplies with
    sharpness = math.sqrt(16 * math.sqrt(HEAD)) / (gain * CONSTANT)
    for number, distance in enumerate((1, 2, 3)):
        base = number * HEAD
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            projection.weight[base : base + HEAD] = 0
        for pair, frequency in enumerate(_frequencies(size)[:FAST_PAIRS]):
            attention.q_proj.weight[base + pair, width] = sharpness * math.cos(distance * frequency)
            attention.q_proj.weight[base + pair + HEAD // 2, width] = -sharpness * math.sin(distance * frequency)
            attention.k_proj.weight[base + pair, width] = sharpness
        attention.v_proj.weight[base : base + slot, :width] = sketch
        place = half + number * slot
        attention.o_proj.weight[place : place + slot, base : base + slot] = torch.eye(slot) / gain


def _write_matching(attention: LlamaAttention, size: Size, sketch: torch.Tensor) -> None:
    """Heads 0 to 2 compare the last three tokens here with those before every earlier token, and copy the token that matches."""
    import torch

    half, (slot, width) = size.hidden // 2, sketch.shape
    gain = math.sqrt(size.hidden / (4 * width * TOKEN_STD**2 + CONSTANT**2))
    slow = [pair for pair, frequency in enumerate(_frequencies(size)) if frequency < SLOW_FREQUENCY]
    lanes = slow + [pair + HEAD // 2 for pair in slow]
    third = len(lanes) // 3
    shares = ((1.0, lanes[: len(lanes) - 2 * third]), (0.9, lanes[len(lanes) - 2 * third : len(lanes) - third]), (0.8, lanes[len(lanes) - third :]))
    for number in range(3):
        base = number * HEAD
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            projection.weight[base : base + HEAD] = 0
        for step, (share, used) in enumerate(shares):
            mix = torch.linalg.qr(torch.randn(slot, slot))[0][: len(used)]
            scale = math.sqrt(share * 9 * math.sqrt(HEAD) / (width * TOKEN_STD**2 * len(used) / slot)) / gain
            rows, place = [base + lane for lane in used], half + step * slot
            attention.k_proj.weight[rows, place : place + slot] = mix * scale
            if step == 0:
                attention.q_proj.weight[rows, :width] = mix @ sketch * scale
            else:
                attention.q_proj.weight[rows, place - slot : place] = mix * scale
        copy = torch.linalg.qr(torch.randn(width, width))[0][:HEAD]
        attention.v_proj.weight[base : base + HEAD, :width] = copy
        attention.o_proj.weight[:width, base : base + HEAD] = copy.T * (COPY_GAIN / (3 * HEAD / width) / gain)

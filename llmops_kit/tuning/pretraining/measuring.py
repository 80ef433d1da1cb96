"""What a language model is measured by: its loss on texts it has not seen, beside that of counting tokens, and what it writes on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmops_kit.starter.tokenizer import BOS, EOS, PAD
from llmops_kit.starter.training import IGNORED, collate

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

_ROWS = 16


def measure_loss(model: LlamaForCausalLM, tokenizer: Tokenizer, texts: Sequence[str], width: int) -> tuple[float, float]:
    """Mean natural-log loss per token of `texts` (each with its end mark, in rows of `width` tokens), and the share of tokens guessed right."""
    import torch

    begin, end, pad = (tokenizer.get_vocab()[token] for token in (BOS, EOS, PAD))
    rows = []
    for encoding in tokenizer.encode_batch(list(texts)):
        ids = [*encoding.ids, end]
        rows += [([begin], ids[start : start + width - 1]) for start in range(0, len(ids), width - 1)]
    rows.sort(key=lambda row: len(row[1]))
    loss, right, count = 0.0, 0, 0
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(rows), _ROWS):
            inputs, targets, _ = (part.to(model.device) for part in collate(rows[start : start + _ROWS], pad))
            wanted = targets != IGNORED
            logits = model.lm_head(model.model(input_ids=inputs, use_cache=False).last_hidden_state[wanted]).float()
            gold = targets[wanted]
            loss += float(torch.nn.functional.cross_entropy(logits, gold, reduction="sum"))
            right += int((logits.argmax(-1) == gold).sum())
            count += len(gold)
    model.train(was_training)
    return loss / count, right / count


def measure_unigram(tokenizer: Tokenizer, ids: Sequence[int], texts: Sequence[str]) -> float:
    """The loss of a model that knows only how often each token stands in the training text, one added to each count (Laplace): what to beat."""
    counts, vocabulary = Counter(ids), tokenizer.get_vocab_size()
    total = len(ids) + vocabulary
    end = tokenizer.get_vocab()[EOS]
    losses = [math.log(total / (counts[token] + 1)) for encoding in tokenizer.encode_batch(list(texts)) for token in (*encoding.ids, end)]
    return sum(losses) / len(losses)


def continue_texts(model: LlamaForCausalLM, tokenizer: Tokenizer, beginnings: Sequence[str], *, max_new_tokens: int = 40) -> list[str]:
    """What the model writes after each beginning, always the likeliest token."""
    import torch

    begin, end, pad = (tokenizer.get_vocab()[token] for token in (BOS, EOS, PAD))
    written = []
    was_training = model.training
    model.eval()
    for beginning in beginnings:
        ids = torch.tensor([[begin, *tokenizer.encode(beginning).ids]], device=model.device)
        with torch.inference_mode():
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=end, pad_token_id=pad
            )
        written.append(str(tokenizer.decode(out[0, ids.shape[1] :].tolist(), skip_special_tokens=True)))
    model.train(was_training)
    return written


def choose_beginnings(texts: Sequence[str], count: int = 3) -> list[tuple[str, str]]:
    """Beginnings of passages kept for evaluation, and how these go on: the longest passages, cut after about a third."""
    chosen = sorted(texts, key=len, reverse=True)[:count]
    return [(text[: (cut := min(40, max(8, len(text) // 3)))], text[cut : cut + 80]) for text in chosen]

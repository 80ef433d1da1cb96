"""The bilingual tokenizer: byte-fallback BPE in which every Japanese character and every digit is its own token."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, SYSTEM, USER, ASSISTANT, UNK = "<pad>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<unk>"
SPECIAL_TOKENS = (PAD, BOS, EOS, SYSTEM, USER, ASSISTANT, UNK)
SPACE = "▁"
CHAT_TEMPLATE = (
    "{{- bos_token -}}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{- '<|assistant|>' -}}{%- generation -%}{{- message['content'] + eos_token -}}{%- endgeneration -%}"
    "{%- elif message['role'] in ['system', 'user'] -%}"
    "{{- '<|' + message['role'] + '|>' + message['content'] + eos_token -}}"
    "{%- else -%}{{- raise_exception('starter-lm knows the roles system, user and assistant, not ' + message['role']) -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def _base_alphabet() -> list[str]:
    """Characters that must each have a token, however rare in the texts: ASCII, kana, Japanese punctuation."""
    spans = ((0x21, 0x7E), (0x3041, 0x3096), (0x30A1, 0x30FC), (0x3000, 0x3002), (0x3008, 0x3011))
    return ["\n", SPACE, "・", "々", "→", "○", "×", *(chr(code) for first, last in spans for code in range(first, last + 1) if code != 0x3000)]


def _choose_alphabet(texts: Iterable[str], size: int) -> list[str]:
    """The base alphabet and the most frequent other characters, ties by code point: the trainer's own choice differs from run to run."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(unicodedata.normalize("NFKC", text).replace(" ", SPACE))
    base = list(dict.fromkeys(_base_alphabet()))
    others = sorted(counts.keys() - set(base), key=lambda character: (-counts[character], character))
    return [*base, *others[: max(0, size - len(base))]]


def train_tokenizer(texts: Sequence[str], *, vocab_size: int = 8192, alphabet_size: int = 3700) -> Tokenizer:
    """Learn the vocabulary from `texts`.

    NFKC first, spaces become U+2581 (as in SentencePiece), Latin words keep their leading space and are cut into
    sub-words; any other character stands alone. Characters outside the alphabet become their UTF-8 bytes.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" ", SPACE)])
    pre_tokenizer = pre_tokenizers.Split(Regex(SPACE + r"?\p{Latin}+|[\s\S]"), behavior="isolated")
    learner = Tokenizer(models.BPE())
    learner.normalizer, learner.pre_tokenizer = normalizer, pre_tokenizer
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    room = vocab_size - len(SPECIAL_TOKENS) - len(byte_tokens)
    alphabet = _choose_alphabet(texts, alphabet_size)
    trainer = trainers.BpeTrainer(
        vocab_size=room, limit_alphabet=len(alphabet), initial_alphabet=alphabet, special_tokens=[], show_progress=False, min_frequency=2
    )
    learner.train_from_iterator(texts, trainer)
    learnt = sorted(learner.get_vocab().items(), key=lambda item: item[1])
    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *byte_tokens, *(token for token, _ in learnt)])}
    import json

    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    built = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token=UNK, fuse_unk=False))
    built.normalizer, built.pre_tokenizer = normalizer, pre_tokenizer
    built.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    built.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return built


def wrap_tokenizer(raw: Tokenizer, *, context_tokens: int) -> PreTrainedTokenizerFast:
    """The tokenizer as transformers saves and loads it, with the chat template."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNK,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        padding_side="left",
        model_max_length=context_tokens,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )

"""A random Llama of a few thousand weights with a byte-level tokenizer, for tests that need a model but not its wits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import llmops_kit

if TYPE_CHECKING:
    from llmops_kit.models.loading import LoadedModel

STARTER_FOLDER = Path(llmops_kit.__file__).parent / "starter" / "weights" / "starter-lm"
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def build_tiny_model(folder: Path, *, context_tokens: int = 512, layers: int = 2, seed: int = 0, endless: bool = False) -> Path:
    """Write model and tokenizer to `folder`. Greedy answers of an `endless` one never end by themselves."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    texts = ["hello world this is a tiny model", "こんにちは世界。これは小さなモデルです。"] * 50
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<s>",
        eos_token="<|im_end|>",
        pad_token="<pad>",
        padding_side="left",
        model_max_length=context_tokens,
        clean_up_tokenization_spaces=False,
        chat_template=TEMPLATE,
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context_tokens,
        initializer_range=0.2,  # large enough that a greedy answer is not one token over and over
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config).eval()
    if endless:
        with torch.no_grad():
            model.get_input_embeddings().weight[tokenizer.eos_token_id] = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder


def load_test_model(name: str, folder: Path) -> LoadedModel:
    """`tiny` (built in `folder`) or `starter-lm` (of the package), loaded the way the kit loads models.

    Skips the test where the starter model's weights are not there.
    """
    from llmops_kit.models.catalogue import PACKAGE_FILE, ModelEntry, read_catalogue
    from llmops_kit.models.loading import load_model
    from llmops_kit.settings import Settings

    if name == "tiny":
        build_tiny_model(folder)
        entry = ModelEntry(id="tiny", provider="huggingface", model=str(folder), context_tokens=512, dtype="float32")
        return load_model(entry, folder, Settings())
    if not (STARTER_FOLDER / "SHA256SUMS").is_file():
        pytest.skip("the weights of starter-lm are not there")
    entry = next(entry for entry in read_catalogue(PACKAGE_FILE) if entry.id == "starter-lm")
    return load_model(entry, STARTER_FOLDER, Settings())


def collapse(text: str) -> str:
    """Runs of unreadable bytes as one mark (how many a decoder writes depends on how it cuts them), none at the end."""
    return re.sub("\ufffd+", "\ufffd", text).rstrip("\ufffd")

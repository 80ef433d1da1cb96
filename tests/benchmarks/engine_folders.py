"""The model folders and prompts of the engine's benchmarks: every system gets the same weights, the same ids and no end of answer."""

from __future__ import annotations

import json
import random
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_kit.starter import weights_folder

SHORTEST, LONGEST = 20, 60
CONTEXT_TOKENS = 2048
_PIECES = (
    "市立図書館は来月から、平日の開館時間を午後9時まで延ばします。",
    "The library stays open until nine on weekdays.",
    "次の文を短くまとめてください。",
    "Write one sentence about the sea.",
    "会議は三階の第二会議室で十時に始まります。",
    "Please answer in Japanese.",
    "有給休暇の上限は何日ですか？",
    "How do I reset the router?",
    "朝の電車は雪で二十分遅れました。",
    "The train was twenty minutes late.",
)


@dataclass(frozen=True)
class Prompt:
    """One prompt as the different systems want it: the user's text, the rendered text and its token ids."""

    user: str
    rendered: str
    ids: tuple[int, ...]


def build_starter(folder: Path) -> Path:
    """starter-lm as shipped, but without an end-of-answer token, so that every stream has exactly the tokens asked for."""
    source = weights_folder("starter-lm")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "model.safetensors", folder)
    _copy_tokenizer(source, folder)
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((source / name).read_text(encoding="utf-8"))
        # None, not absent: without the key LlamaConfig takes 2
        (folder / name).write_text(json.dumps(settings | {"eos_token_id": None}), encoding="utf-8")
    return folder


def build_random(folder: Path, *, hidden_size: int = 768, layers: int = 12) -> Path:
    """A Llama of about 100 million random weights (97.5 M as called here) with starter-lm's tokenizer, the same at every call."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging as chatter

    chatter.disable_progress_bar()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=hidden_size // 64,
        num_key_value_heads=hidden_size // 64,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=0,
        dtype="float32",
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight[:263] = 0.0  # special tokens and single bytes are never the likeliest: every token is text that can be shown at once
    model.save_pretrained(folder)
    _copy_tokenizer(weights_folder("starter-lm"), folder)
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder


def _copy_tokenizer(source: Path, folder: Path) -> None:
    shutil.copy(source / "tokenizer.json", folder)
    settings = json.loads((source / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings.pop("eos_token", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    template = (source / "chat_template.jinja").read_text(encoding="utf-8")
    (folder / "chat_template.jinja").write_text(re.sub(r"\beos_token\b", "'</s>'", template), encoding="utf-8")


def copy_for_transformers_4(folder: Path, copy: Path) -> Path:
    """The same folder in the spelling of transformers 4, which FastChat needs."""
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["torch_dtype"] = config.pop("dtype")
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    settings = json.loads((copy / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings.pop("backend", None)
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    settings["additional_special_tokens"] = settings.pop("extra_special_tokens", [])
    (copy / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return copy


def make_prompts(folder: Path, count: int) -> list[Prompt]:
    """`count` different prompts, Japanese and English mixed, of 20 to 60 tokens as rendered; the same ones at every call."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    dice = random.Random(0)
    prompts: dict[str, Prompt] = {}
    while len(prompts) < count:
        user = f"{dice.randrange(1000)} " + "".join(dice.sample(_PIECES, dice.randint(1, 3)))
        turns = [{"role": "user", "content": user}]
        ids = tuple(tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False))
        if SHORTEST <= len(ids) <= LONGEST and user not in prompts:
            prompts[user] = Prompt(user, tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False), ids)
    return list(prompts.values())

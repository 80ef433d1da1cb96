"""The weights folder: written beside its place, checksummed, then moved there in one step."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from llmops_kit.models.checksums import CHECKSUMS
from llmops_kit.starter.corpus import hash_file
from llmops_kit.starter.tokenizer import wrap_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

RECIPE = "recipe.json"


@contextmanager
def replace_folder(target: Path) -> Iterator[Path]:
    """A fresh folder to fill beside `target`; at the end it gets its checksums and mode 0644, and takes the place of `target` at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    yield fresh
    files = sorted(path for path in fresh.iterdir() if path.name != CHECKSUMS)
    (fresh / CHECKSUMS).write_text("".join(f"{hash_file(path)}  {path.name}\n" for path in files), encoding="utf-8")
    for path in fresh.iterdir():
        path.chmod(0o644)
    fresh.chmod(0o755)
    old = target.with_name(f".{target.name}-old")
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def ship(model: LlamaForCausalLM, tokenizer: Tokenizer, recipe: dict[str, object], target: Path) -> None:
    """Save model, tokenizer, recipe and checksums to `target`, replacing what was there at once."""
    with replace_folder(target) as fresh:
        model.generation_config.max_new_tokens = None
        model.generation_config.do_sample = False
        model.save_pretrained(fresh)
        wrap_tokenizer(tokenizer, context_tokens=int(model.config.max_position_embeddings)).save_pretrained(fresh)
        (fresh / RECIPE).write_text(json.dumps(recipe, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

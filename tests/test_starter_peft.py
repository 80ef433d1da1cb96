"""starter-lm under plain peft: an adapter learns from a few rows, is saved, and changes the answers only while it is on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmops_kit.starter import weights_folder

FOLDER = weights_folder("starter-lm")
PLACES = {"東京": "関東", "神戸": "関西", "札幌": "北海道", "福岡": "九州"}
ROWS = [(f"{city}はどこですか。", f"{region}やで！") for city, region in PLACES.items()]


@pytest.fixture(scope="module")
def pieces() -> tuple[Any, Any]:
    """The shipped model and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_pretrained(FOLDER, use_safetensors=True), AutoTokenizer.from_pretrained(FOLDER)


def render(tokenizer: Any, asked: str, answer: str) -> Any:
    import torch

    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    prompt = tokenizer.apply_chat_template(messages[:1], add_generation_prompt=True)["input_ids"]
    whole = tokenizer.apply_chat_template(messages)["input_ids"]
    return torch.tensor([whole]), torch.tensor([[-100] * len(prompt) + whole[len(prompt) :]])


def test_an_adapter_learns_is_saved_and_comes_off_again(pieces: tuple[Any, Any], tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    model, tokenizer = pieces
    batches = [render(tokenizer, asked, answer) for asked, answer in ROWS]
    before = model(input_ids=batches[0][0]).logits.detach().clone()
    tuned = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    optimiser = torch.optim.AdamW([weight for weight in tuned.parameters() if weight.requires_grad], lr=5e-3)
    losses = []
    for _ in range(12):
        for ids, labels in batches:
            loss = tuned(input_ids=ids, labels=labels).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    assert sum(losses[-4:]) < 0.3 * sum(losses[:4])
    with tuned.disable_adapter():
        assert torch.equal(tuned(input_ids=batches[0][0]).logits, before), "the base is untouched"
    tuned.save_pretrained(tmp_path)
    assert (tmp_path / "adapter_model.safetensors").stat().st_size < 2e6
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(FOLDER, use_safetensors=True), tmp_path)
    assert torch.allclose(again(input_ids=batches[0][0]).logits, tuned(input_ids=batches[0][0]).logits, atol=1e-5)

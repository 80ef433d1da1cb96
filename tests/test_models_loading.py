"""Loading a local model: once for everybody, safetensors only, and what is wrong is refused by name."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import pytest

from llmops_kit.errors import ModelRefused
from llmops_kit.models import Models
from llmops_kit.models.catalogue import ModelEntry
from llmops_kit.models.loading import fingerprint, hash_file, load_model, verify_checksums
from llmops_kit.settings import Settings
from tests.tiny_model import build_tiny_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def models(settings: Settings) -> Models:
    return Models(settings)



def test_many_threads_want_one_model_and_it_is_loaded_once(settings: Settings, models: Models, tiny: Path) -> None:
    models.add("tiny", provider="huggingface", model=str(tiny), context_tokens=256)
    chats: list[object] = []
    threads = [threading.Thread(target=lambda: chats.append(models.chat("tiny"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(chats) == 6 and len({id(chat) for chat in chats}) == 1
    (info,) = models.loaded()
    assert info.id == "tiny" and info.memory_mb > 0 and info.dtype in ("float32", "bfloat16", "float16")
    assert models.state("tiny").is_ready
    assert models.unload("tiny") and not models.unload("tiny") and models.loaded() == ()


def test_weights_other_than_safetensors_are_refused(settings: Settings, models: Models, tiny: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = tmp_path / "pickled"
    shutil.copytree(tiny, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    entry = ModelEntry(id="t", provider="huggingface", model=str(folder))
    with pytest.raises(ModelRefused, match="safetensors"):
        load_model(entry, folder, settings)


def damage(folder: Path, change: str) -> str:
    """Write the weights again with one thing wrong, and give the text the refusal must carry."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    if change == "nan":
        weights[name][3, 3] = float("nan")
    elif change == "missing":
        del weights[name]
    elif change == "shape":
        weights[name] = torch.zeros(3, 3)
    if change == "header":
        (folder / "model.safetensors").write_bytes(b"\xff" * 64)
        return "could not be read"
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return name


@pytest.mark.parametrize("change", ["nan", "missing", "shape", "header"])
def test_damaged_weights_are_refused_by_name(settings: Settings, tiny: Path, tmp_path: Path, change: str) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(tiny, folder)
    wrong = damage(folder, change)
    entry = ModelEntry(id="t", provider="huggingface", model=str(folder))
    with pytest.raises(ModelRefused) as refused:
        load_model(entry, folder, settings)
    assert wrong in refused.value.text("en") and wrong in refused.value.text("ja") + "could not be read"


def test_a_model_that_brings_code_never_runs_it(settings: Settings, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "code"
    shutil.copytree(tiny, folder)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config"}
    (folder / "config.json").write_text(json.dumps(config))
    proof = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(proof)!r}, 'w').close()\n")
    for trusting in (False, True):
        entry = ModelEntry(id="t", provider="huggingface", model=str(folder), trust_remote_code=trusting)
        with pytest.raises(ModelRefused, match="LLMOPS_ALLOW_REMOTE_CODE"):
            load_model(entry, folder, settings)
    assert not proof.exists()


def test_a_damaged_starter_file_is_refused_with_both_checksums(settings: Settings, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "starter"
    shutil.copytree(tiny, folder)
    sums = "".join(f"{hash_file(file)}  {file.name}\n" for file in sorted(folder.iterdir()))
    (folder / "SHA256SUMS").write_text(sums)
    entry = ModelEntry(id="s", provider="starter", model="s", dtype="float32")
    loaded = load_model(entry, folder, settings)
    assert loaded.revision == fingerprint(folder)
    right = hash_file(folder / "model.safetensors")
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    with pytest.raises(ModelRefused) as refused:
        load_model(entry, folder, settings)
    for language in ("en", "ja"):
        assert all(part in refused.value.text(language) for part in ("model.safetensors", right, hash_file(folder / "model.safetensors")))
    shutil.copy(tiny / "model.safetensors", folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelRefused, match="missing"):
        verify_checksums(entry, folder)


def test_weights_that_change_have_another_fingerprint(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny, folder)
    assert fingerprint(folder) == fingerprint(tiny)
    damage(folder, "nan")
    assert fingerprint(folder) != fingerprint(tiny)

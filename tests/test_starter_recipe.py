"""The recipe of starter-lm: it repeats, it runs in its large size, and it is ready for a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from tokenizers import Tokenizer

from llmops_kit.errors import InvalidValue
from llmops_kit.starter import reasoning, rewriting, talk, weights_folder
from llmops_kit.starter.card import render_card
from llmops_kit.starter.curriculum import Curriculum
from llmops_kit.starter.feeding import read_ahead
from llmops_kit.starter.tokenizer import train_tokenizer
from llmops_kit.starter.training import Plan, feed, instruction_batches, plan_for, train
from tests import small_recipe
from tests.small_data import write_small_data

FOLDER = weights_folder("starter-lm")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """The shipped one."""
    return Tokenizer.from_file(str(FOLDER / "tokenizer.json"))


def template_curriculum() -> Curriculum:
    """The kinds that need no data folder."""
    return Curriculum({**rewriting.makers(), **reasoning.makers(), **talk.makers()}, {})


@pytest.fixture(scope="module")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of made-up articles."""
    return write_small_data(tmp_path_factory.mktemp("small") / "data")


def test_the_recipe_run_twice_from_one_seed_gives_the_same_weights_and_figures(small_data: Path, tmp_path: Path) -> None:
    """Once here, once in another process with other hash values, so that no order of a set can hide."""
    environment = {**os.environ, "PYTHONHASHSEED": "11", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.small_recipe", small_data, tmp_path / "second"]
    with subprocess.Popen(command, cwd=Path(__file__).parents[1], env=environment, stderr=subprocess.PIPE, text=True) as elsewhere:
        small_recipe.main(small_data, tmp_path / "first")
        _, problems = elsewhere.communicate(timeout=900)
    assert elsewhere.returncode == 0, problems
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name
    first, second = (json.loads((tmp_path / run / "recipe.json").read_text(encoding="utf-8")) for run in ("first", "second"))
    assert first["evaluation"] == second["evaluation"] and len(first["evaluation"]) == 2 * len(small_recipe.KINDS) + 2
    figures = [[{key: value for key, value in row.items() if key != "cpu_s"} for row in run["log"]] for run in (first, second)]
    assert figures[0] == figures[1] and figures[0][0]["loss"] != figures[0][-1]["loss"]
    for run in (first, second):
        assert run["training"]["steps"] == 30 and run["training"]["tokens"] > 4000


def test_the_large_recipe_runs_on_a_processor_and_writes_half_precision_within_the_budget(small_data: Path, tmp_path: Path) -> None:
    """The command of a GPU run with three steps and `--device cpu`; CUDA itself is not tested here."""
    import torch
    from safetensors import safe_open

    from llmops_kit.models.catalogue import PACKAGE_FILE, read_catalogue
    from llmops_kit.models.loading import load_model
    from llmops_kit.settings import Settings
    from llmops_kit.starter.__main__ import main

    out = tmp_path / "starter-lm"
    options = ["--size", "large", "--device", "cpu", "--steps", "3", "--rows", "0", "--batch-tokens", "256"]
    assert main(["lm", "--data", str(small_data), "--out", str(out), *options]) == 0
    written = json.loads((out / "recipe.json").read_text(encoding="utf-8"))
    assert written["plan"]["device"] == "cpu" and written["plan"]["precision"] == "float32" and written["weights_format"] == "bfloat16"
    training = written["training"]
    assert training["steps"] == 3 and training["flop"] > 6 * written["parameters_body"] * training["tokens"] > 0
    with safe_open(out / "model.safetensors", "pt") as weights:
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.bfloat16}  # noqa: SIM118
    card = render_card(written)
    assert "bfloat16 safetensors" in card and f"{training['flop']:.2e} floating-point operations" in card
    entry = next(entry for entry in read_catalogue(PACKAGE_FILE) if entry.id == "starter-lm")
    loaded = load_model(entry, out, Settings(workspace=tmp_path))
    assert loaded.dtype == "float32" and loaded.model.dtype == torch.float32
    full_size = 2 * (written["parameters_body"] + 8192 * written["architecture"]["hidden"])  # bytes, with the vocabulary of real data
    others = sum(file.stat().st_size for model in FOLDER.parent.iterdir() if model.is_dir() and model != FOLDER for file in model.iterdir())
    assert full_size + others + 1e6 <= 40e6, "the weights would be too large for the package"


def test_a_gpu_run_is_one_command_with_its_own_plan(small_data: Path, tmp_path: Path) -> None:
    import torch

    from llmops_kit.starter.__main__ import main

    assert plan_for("small", "cpu") == Plan()
    plan = plan_for("large", "cuda")
    assert (plan.device, plan.precision, plan.weights_format) == ("cuda", "bfloat16", "bfloat16") and plan.workers > 0
    assert plan.batch_tokens > 30 * Plan().batch_tokens
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device, which would train for real")
    with pytest.raises(InvalidValue, match="cuda"):
        main(["lm", "--data", str(small_data), "--out", str(tmp_path / "x"), "--size", "large", "--device", "cuda"])
    assert not (tmp_path / "x").exists()


def test_rows_drawn_ahead_come_in_a_fixed_order(tokenizer: Tokenizer) -> None:
    curriculum = template_curriculum()
    plan = Plan(workers=2, batch_tokens=256, seed=4)
    alone = [instruction_batches(Random(f"4 {number}"), tokenizer, curriculum, plan) for number in range(2)]
    expected = [next(alone[number % 2]) for number in range(6)]
    assert list(islice(feed(Random(0), tokenizer, curriculum, plan), 6)) == expected


def test_a_source_of_rows_that_ends_is_an_error_and_not_a_hang() -> None:
    with pytest.raises(RuntimeError, match="exit code 0"):
        list(read_ahead([lambda: (1, 2)]))


def test_half_precision_arithmetic_trains_float32_weights(tokenizer: Tokenizer) -> None:
    """What a GPU run does, on a small model and the processor."""
    import torch

    from llmops_kit.starter.lm import Size, build_model

    model = build_model(Size(hidden=192, layers=2, heads=3, feed_forward=64), tokenizer, seed=1)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    history = train(model, tokenizer, template_curriculum(), Plan(steps=2, copy_steps=1, batch_tokens=64, precision="bfloat16"))
    assert history.steps == 2 and history.attended > history.tokens
    assert all(weight.dtype == torch.float32 and bool(weight.isfinite().all()) for weight in model.state_dict().values())
    assert any(not torch.equal(before[name], weight) for name, weight in model.state_dict().items())


def test_rare_characters_that_are_equally_rare_do_not_change_the_vocabulary_from_run_to_run() -> None:
    texts = [chr(0x4E00 + number) * 2 for number in range(600)]  # each as rare as the other, and room for a part of them
    vocabularies = {tuple(sorted(train_tokenizer(texts, vocab_size=900, alphabet_size=400).get_vocab().items())) for _ in range(4)}
    assert len(vocabularies) == 1

"""The recipe of starter-lm from the data folder to the shipped folder: tokenizer, network, training, evaluation, checksums."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from llmops_kit.errors import InvalidValue
from llmops_kit.starter import reasoning, rewriting, talk
from llmops_kit.starter.corpus import Corpus, read_corpus
from llmops_kit.starter.curriculum import LANGUAGES, Curriculum
from llmops_kit.starter.evaluation import evaluate
from llmops_kit.starter.library_kinds import LibraryKinds
from llmops_kit.starter.lm import SIZES, build_model
from llmops_kit.starter.passages import PassageKinds
from llmops_kit.starter.shipping import RECIPE, ship
from llmops_kit.starter.substitution import Substitution
from llmops_kit.starter.tokenizer import train_tokenizer
from llmops_kit.starter.training import History, Plan, train

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

log = logging.getLogger(__name__)

ARTICLES = 1500
TOKENIZER_PASSAGES = 30_000
TOKENIZER_ROWS = 20_000
WEIGHTS = {
    "sentence": 3.0,
    "summary": 4.0,
    "list": 1.6,
    "repeat": 2.0,
    "decline": 0.6,
    "quote": 0.3,
    "question": 0.5,
    "style": 1.4,
    "keywords": 1.0,
    "spelling": 1.5,
    "fill": 1.4,
    "translate": 1.3,
    "classify": 1.6,
    "json": 1.8,
    "count": 0.9,
    "sort": 0.9,
    "yes_no": 0.8,
    "greet": 0.6,
    "write": 1.0,
    "ideas": 0.6,
    "quoted": 0.0,
}
LIBRARY_WEIGHTS = {
    "brainstorm": 1.2,
    "extract_announcement": 1.8,
    "actions": 1.6,
    "reply_email": 1.6,
    "judge_pair": 1.5,
    "judge_score": 1.2,
    "critique": 0.8,
    "explain": 0.7,
    "questions": 1.5,
    "answer_sources": 1.5,
}
"""The kinds that the prompts of the library ask for. The small model has no room for them."""
WEIGHTS_OF = {
    "small": {**WEIGHTS, **dict.fromkeys(LIBRARY_WEIGHTS, 0.0)},
    "large": {**WEIGHTS, **LIBRARY_WEIGHTS, "quoted": 1.0, "sort": 1.5, "spelling": 2.0, "quote": 1.0, "repeat": 2.5},
}
WEIGHTS_OF["largest"] = WEIGHTS_OF["large"]
POLISH_WEIGHTS = {**WEIGHTS_OF["small"], "sentence": 4.0, "quoted": 3.0}
POLISH_STEPS = 4500
POLISH_LEARNING_RATE = 6e-4


def build_curriculum(corpus: Corpus, weights: Mapping[str, float] = WEIGHTS_OF["small"]) -> Curriculum:
    """All kinds, with the weights of the main phase, or of another one."""
    makers = {**PassageKinds(corpus).makers(), **rewriting.makers(), **reasoning.makers(), **talk.makers(), **LibraryKinds(corpus).makers()}
    return Curriculum(makers, weights, Substitution(corpus.passages))


def polish_plan(plan: Plan) -> Plan:
    """The second, shorter phase: half the rate, rows of its own, and more answers in quotation marks, whose first token is another one than in a sentence."""
    return replace(plan, steps=POLISH_STEPS, learning_rate=POLISH_LEARNING_RATE, seed=plan.seed + 1)


def train_starter_lm(
    data: Path,
    target: Path,
    *,
    size: str,
    plan: Plan,
    weights: Mapping[str, float] = WEIGHTS_OF["small"],
    held_out_rows: int = 50,
    checkpoint: Path | None = None,
    start: Path | None = None,
) -> dict[str, object]:
    """Run the whole recipe, or with `start` a further phase on earlier weights; returns what is written to `recipe.json` beside the weights.

    Raises:
        InvalidValue: the plan asks for a CUDA device and there is none.
    """
    _check_device(plan.device)
    corpus = read_corpus(data, articles=ARTICLES)
    log.info("%d questions, %d passages, %d texts dropped for overlap", len(corpus.questions), len(corpus.passages), corpus.dropped)
    curriculum = build_curriculum(corpus, weights)
    tokenizer = learn_tokenizer(corpus, curriculum, seed=plan.seed) if start is None else _read_tokenizer(start)
    return finish_starter_lm(corpus, curriculum, tokenizer, target, size=size, plan=plan, held_out_rows=held_out_rows, checkpoint=checkpoint, start=start)


def _check_device(device: str) -> None:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise InvalidValue(name="device", value="cuda", allowed="cpu (torch finds no CUDA device)")


def learn_tokenizer(corpus: Corpus, curriculum: Curriculum, *, seed: int, rows: int = TOKENIZER_ROWS) -> Tokenizer:
    """The tokenizer of the passages and of the shorter ones among `rows` instructions."""
    rng = Random(seed)
    texts = [passage.text for passage in rng.sample(corpus.passages, min(TOKENIZER_PASSAGES, len(corpus.passages)))]
    for _ in range(rows):
        row = curriculum.draw(rng)
        if len(row.user) < 200:
            texts.append(f"{row.user}\n{row.answer}")
    return train_tokenizer(texts)


def finish_starter_lm(
    corpus: Corpus,
    curriculum: Curriculum,
    tokenizer: Tokenizer,
    target: Path,
    *,
    size: str,
    plan: Plan,
    held_out_rows: int,
    checkpoint: Path | None = None,
    start: Path | None = None,
) -> dict[str, object]:
    """The recipe from the tokenizer on: network, training, evaluation, shipping.

    With `start`, a folder of earlier weights with the same tokenizer, training goes on from there and the record keeps both phases.
    """
    import torch

    model, earlier = (build_model(SIZES[size], tokenizer, seed=plan.seed), []) if start is None else _load_phase(start)
    if checkpoint:
        tokenizer.save(str(checkpoint.with_suffix(".tokenizer.json")))
    model.to(torch.device(plan.device))  # type: ignore[arg-type, unused-ignore]
    history = train(model, tokenizer, curriculum, plan, checkpoint=checkpoint)
    weights_format = getattr(torch, plan.weights_format)
    model.to(weights_format).float()  # what is measured is what is shipped
    report = evaluate(model, tokenizer, curriculum, corpus, rows=held_out_rows)
    parameters = sum(weight.numel() for weight in model.parameters())
    embedding = model.get_input_embeddings().weight.numel()
    recipe: dict[str, object] = {
        "model": "starter-lm",
        "size": size,
        "architecture": asdict(SIZES[size]),
        "parameters": parameters,
        "parameters_body": parameters - embedding,
        "plan": asdict(plan),
        "kind_weights": curriculum.weights,
        "languages": list(LANGUAGES),
        "data_sha256": corpus.hashes,
        "texts_dropped_for_overlap": corpus.dropped,
        "training": {key: value for key, value in asdict(history).items() if key != "log"} | {"flop": count_flop(model, history)},
        "log": history.log,
        "earlier_phases": earlier,
        "evaluation": report,
        "weights_format": plan.weights_format,
        "machine": torch.cuda.get_device_name() if plan.device == "cuda" else f"{platform.machine()}, {plan.threads} thread(s)",
    }
    ship(model.to(weights_format).cpu(), tokenizer, recipe, target)
    return recipe


def count_flop(model: LlamaForCausalLM, history: History) -> float:
    """Floating-point operations of the training, padding included, recomputation not.

    Six per parameter and token, forward and backward (Kaplan et al. 2020), where the output layer runs on answer tokens alone;
    for attention 12 · layers · hidden · width per token (Chowdhery et al. 2022, appendix B).
    """
    table = model.get_input_embeddings().weight.numel()
    body = sum(weight.numel() for weight in model.parameters()) - table
    attention = 12.0 * model.config.num_hidden_layers * model.config.hidden_size * history.attended
    return float(6.0 * body * history.tokens + 6.0 * table * history.answer_tokens + attention)


def _read_tokenizer(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def _load_phase(folder: Path) -> tuple[LlamaForCausalLM, list[dict[str, object]]]:
    """The weights of an earlier phase and the records of all phases up to it."""
    from transformers import LlamaForCausalLM

    record = json.loads((folder / RECIPE).read_text(encoding="utf-8"))
    phase = {key: record[key] for key in ("plan", "kind_weights", "training", "log")}
    return LlamaForCausalLM.from_pretrained(folder, use_safetensors=True).float(), [*record.get("earlier_phases", []), phase]


def evaluate_again(data: Path, folder: Path, *, held_out_rows: int) -> dict[str, object]:
    """Measure the weights in `folder` on more rows, and ship them again with the new record."""
    from transformers import AutoModelForCausalLM

    corpus = read_corpus(data, articles=ARTICLES)
    recipe: dict[str, object] = json.loads((folder / RECIPE).read_text(encoding="utf-8"))
    tokenizer = _read_tokenizer(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True).eval()
    weights_format = model.dtype
    recipe["evaluation"] = evaluate(model.float(), tokenizer, build_curriculum(corpus, WEIGHTS_OF[str(recipe["size"])]), corpus, rows=held_out_rows)
    ship(model.to(weights_format), tokenizer, recipe, folder)
    return recipe

"""The recipe of starter-lm from the data folder to the shipped folder: tokenizer, network, training, evaluation, checksums."""

from __future__ import annotations

import json
import logging
import platform
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from llmops_kit.starter import reasoning, rewriting, talk
from llmops_kit.starter.corpus import Corpus, read_corpus
from llmops_kit.starter.curriculum import LANGUAGES, Curriculum
from llmops_kit.starter.evaluation import evaluate
from llmops_kit.starter.lm import SIZES, build_model
from llmops_kit.starter.passages import PassageKinds
from llmops_kit.starter.shipping import RECIPE, ship
from llmops_kit.starter.tokenizer import train_tokenizer
from llmops_kit.starter.training import Plan, train

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

log = logging.getLogger(__name__)

ARTICLES = 1500
TOKENIZER_PASSAGES = 30_000
TOKENIZER_ROWS = 20_000
WEIGHTS = {
    "sentence": 2.4,
    "summary": 4.0,
    "list": 1.6,
    "repeat": 2.0,
    "decline": 0.6,
    "quote": 0.3,
    "question": 0.5,
    "style": 1.4,
    "keywords": 0.8,
    "spelling": 1.5,
    "fill": 1.2,
    "translate": 1.3,
    "classify": 1.6,
    "json": 1.6,
    "count": 0.6,
    "sort": 0.4,
    "yes_no": 0.6,
    "greet": 0.6,
    "write": 1.0,
    "ideas": 0.6,
}


def build_curriculum(corpus: Corpus) -> Curriculum:
    """All kinds, with the weights of the shipped run."""
    makers = {**PassageKinds(corpus).makers(), **rewriting.makers(), **reasoning.makers(), **talk.makers()}
    return Curriculum(makers, WEIGHTS)


def train_starter_lm(
    data: Path, target: Path, *, size: str, plan: Plan, held_out_rows: int = 50, checkpoint: Path | None = None, start: Path | None = None
) -> dict[str, object]:
    """Run the whole recipe, or with `start` a further phase on earlier weights; returns what is written to `recipe.json` beside the weights."""
    corpus = read_corpus(data, articles=ARTICLES)
    log.info("%d questions, %d passages, %d texts dropped for overlap", len(corpus.questions), len(corpus.passages), corpus.dropped)
    curriculum = build_curriculum(corpus)
    tokenizer = learn_tokenizer(corpus, curriculum, seed=plan.seed) if start is None else _read_tokenizer(start)
    return finish_starter_lm(corpus, curriculum, tokenizer, target, size=size, plan=plan, held_out_rows=held_out_rows, checkpoint=checkpoint, start=start)


def learn_tokenizer(corpus: Corpus, curriculum: Curriculum, *, seed: int) -> Tokenizer:
    """The tokenizer of the passages and of the shorter instructions."""
    rng = Random(seed)
    texts = [passage.text for passage in rng.sample(corpus.passages, min(TOKENIZER_PASSAGES, len(corpus.passages)))]
    for _ in range(TOKENIZER_ROWS):
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
    model, earlier = (build_model(SIZES[size], tokenizer, seed=plan.seed), []) if start is None else _load_phase(start)
    if checkpoint:
        tokenizer.save(str(checkpoint.with_suffix(".tokenizer.json")))
    history = train(model, tokenizer, curriculum, plan, checkpoint=checkpoint)
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
        "kind_weights": WEIGHTS,
        "languages": list(LANGUAGES),
        "data_sha256": corpus.hashes,
        "texts_dropped_for_overlap": corpus.dropped,
        "training": {key: value for key, value in asdict(history).items() if key != "log"},
        "log": history.log,
        "earlier_phases": earlier,
        "evaluation": report,
        "machine": f"{platform.machine()}, {plan.threads} thread(s)",
    }
    ship(model, tokenizer, recipe, target)
    return recipe


def _read_tokenizer(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def _load_phase(folder: Path) -> tuple[LlamaForCausalLM, list[dict[str, object]]]:
    """The weights of an earlier phase and the records of all phases up to it."""
    from transformers import LlamaForCausalLM

    record = json.loads((folder / RECIPE).read_text(encoding="utf-8"))
    phase = {key: record[key] for key in ("plan", "kind_weights", "training", "log")}
    return LlamaForCausalLM.from_pretrained(folder, use_safetensors=True), [*record.get("earlier_phases", []), phase]


def evaluate_again(data: Path, folder: Path, *, held_out_rows: int) -> dict[str, object]:
    """Measure the weights in `folder` on more rows, and ship them again with the new record."""
    from transformers import AutoModelForCausalLM

    corpus = read_corpus(data, articles=ARTICLES)
    recipe: dict[str, object] = json.loads((folder / RECIPE).read_text(encoding="utf-8"))
    tokenizer = _read_tokenizer(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True).eval()
    recipe["evaluation"] = evaluate(model, tokenizer, build_curriculum(corpus), corpus, rows=held_out_rows)
    ship(model, tokenizer, recipe, folder)
    return recipe

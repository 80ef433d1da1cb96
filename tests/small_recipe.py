"""A short run of the starter-lm recipe in a process of its own: `python -m tests.small_recipe DATA OUT`."""

from __future__ import annotations

import sys
from pathlib import Path

from llmops_kit.starter import reasoning, rewriting
from llmops_kit.starter.corpus import read_corpus
from llmops_kit.starter.curriculum import Curriculum
from llmops_kit.starter.passages import PassageKinds
from llmops_kit.starter.recipe import finish_starter_lm, learn_tokenizer
from llmops_kit.starter.substitution import Substitution
from llmops_kit.starter.training import Plan

KINDS = ("sentence", "summary", "json", "classify")


def main(data: Path, out: Path) -> None:
    """Every step of the recipe, on four kinds, with few rows and steps."""
    corpus = read_corpus(data, articles=40)
    makers = {**PassageKinds(corpus).makers(), **rewriting.makers(), **reasoning.makers()}
    curriculum = Curriculum({kind: makers[kind] for kind in KINDS}, {}, Substitution(corpus.passages))
    plan = Plan(steps=30, batch_tokens=256, warmup_steps=5, log_every=6, threads=1)
    tokenizer = learn_tokenizer(corpus, curriculum, seed=plan.seed, rows=400)
    finish_starter_lm(corpus, curriculum, tokenizer, out, size="small", plan=plan, held_out_rows=2)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

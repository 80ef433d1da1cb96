"""Train, measure and ship starter-embed: `python -m llmops_kit.starter.embedding --data DIR`.

A table of token vectors whose mean is the vector of a text. Pairs that belong together (question and paragraph, sentence
and its paragraph, sentence and translation, alike captions) are drawn near, the rest of a batch away. JaQuAD dev, a part
of JSTS train and articles kept back serve for choosing; JSQuAD valid, XQuAD and JSTS valid are only measured at the end.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmops_kit.models.embedder import CODES, SCALES, TOKENIZER, WEIGHTS, StarterEmbedder
from llmops_kit.starter import weights_folder
from llmops_kit.starter.corpus import EVALUATION_FILES, read_jsquad, read_questions
from llmops_kit.starter.embedding_evaluation import Embed, measure_cross_lingual, measure_paraphrases, measure_questions, measure_scored
from llmops_kit.starter.embedding_pairs import build_sources
from llmops_kit.starter.embedding_texts import SCORED_VALID, Texts, read_scored, read_texts
from llmops_kit.starter.embedding_tokenizer import RunEncoder, count_rarity, train_tokenizer
from llmops_kit.starter.embedding_training import Plan, initial_table, train
from llmops_kit.starter.shipping import RECIPE, replace_folder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MODULES = "modules.json"
ALL_ARTICLES = 1_000_000
TOKENIZER_SHARE = 8  # every how manieth bilingual paragraph the tokenizer learns from
LEVELS = 127  # codes are whole numbers from -127 to 127
log = logging.getLogger(__name__)
_MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.StaticEmbedding"},
    {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"},
]


def tokenizer_texts(texts: Texts) -> Iterator[str]:
    """What the vocabulary is learnt from: all questions and their contexts, part of the bilingual paragraphs, captions."""
    for rows in texts.questions.values():
        yield from dict.fromkeys(row.context for row in rows)
        yield from (row.question for row in rows)
    for paragraph in texts.paragraphs[::TOKENIZER_SHARE]:
        yield paragraph.ja.text
        yield paragraph.en.text
    yield from (pair.first for pair in texts.scored)


def quantise(table: NDArray[np.float32]) -> dict[str, NDArray[np.int8] | NDArray[np.float32]]:
    """Each row as 8-bit codes and one scale: a quarter of the size, and sentence-transformers multiplies them back."""
    scales = np.maximum(np.abs(table).max(1), np.float32(1e-12)) / np.float32(LEVELS)
    return {CODES: np.rint(table / scales[:, None]).astype(np.int8), SCALES: scales.astype(np.float32)}


def evaluate(embed: Embed, texts: Texts, folder: Path) -> dict[str, dict[str, float]]:
    """All figures: the development ones first, then JSQuAD valid, XQuAD-en and JSTS valid."""
    valid = read_scored(folder / SCORED_VALID)
    crossed = measure_cross_lingual(embed, texts.held_out) if texts.held_out else {}
    return {
        "jaquad_dev": measure_questions(embed, texts.development),
        "jsts_train_held_out": measure_scored(embed, texts.scored_development),
        **{f"kyoto_held_out_en_{name}_to_ja": figures for name, figures in crossed.items()},
        "jsquad_valid": measure_questions(embed, list(read_jsquad(folder / EVALUATION_FILES[0]))),
        "xquad_en": measure_questions(embed, list(read_questions(folder / EVALUATION_FILES[1], "en"))),
        "jsts_valid": measure_scored(embed, valid),
        "jsts_valid_paraphrases": measure_paraphrases(embed, valid),
    }


def ship(table: NDArray[np.float32], tokenizer: Tokenizer, recipe: Mapping[str, object], target: Path) -> None:
    """Write a folder for sentence-transformers with recipe and checksums beside `target`, then put it in its place."""
    from safetensors.numpy import save_file

    with replace_folder(target) as fresh:
        save_file(quantise(table), fresh / WEIGHTS)
        tokenizer.save(str(fresh / TOKENIZER), pretty=False)
        (fresh / MODULES).write_text(json.dumps(_MODULES, indent=1) + "\n", encoding="utf-8")
        (fresh / RECIPE).write_text(json.dumps(recipe, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def run(folder: Path, target: Path, *, plan: Plan | None = None, articles: int = ALL_ARTICLES, device: str = "cpu") -> dict[str, object]:
    """The whole recipe; returns what it also writes to `recipe.json`."""
    import torch

    plan = plan or Plan()
    begun = time.process_time()
    torch.set_num_threads(1)
    texts = read_texts(folder, articles=articles)
    log.info("read in %.0f CPU-s, dropped %s", time.process_time() - begun, texts.dropped)
    tokenizer = train_tokenizer(list(tokenizer_texts(texts)), plan.vocabulary)
    size = tokenizer.get_vocab_size()
    sources = build_sources(texts, RunEncoder(tokenizer))
    prepared = time.process_time()
    log.info("%d tokens, pairs ready after %.0f CPU-s: %s", size, prepared - begun, {name: len(source) for name, source in sources.items()})
    rarity = count_rarity([source.right for name, source in sources.items() if name in ("jaquad", "new_wiki", "kyoto_ja", "kyoto_en")], size)
    table = train(initial_table(rarity, plan), sources, plan, device=device)
    trained = time.process_time()
    recipe: dict[str, object] = {
        "model": "starter-embed", "licence": "CC BY-SA 4.0", "plan": asdict(plan), "tokens": size, "articles": articles, "device": device,
        "pairs": {name: len(source) for name, source in sources.items()}, "dropped_for_overlap": texts.dropped,
        "held_out_articles": len({row.ja.title for row in texts.held_out}), "held_out_paragraphs": len(texts.held_out),
        "data_sha256": texts.hashes, "torch": torch.__version__, "numpy": np.__version__, "machine": platform.machine(),
        "prepare_cpu_s": round(prepared - begun), "train_cpu_s": round(trained - prepared),
    }
    ship(table, tokenizer, recipe, target)
    recipe["evaluation"] = evaluate(StarterEmbedder(target).encode, texts, folder)
    recipe["cpu_s"] = round(time.process_time() - begun)
    ship(table, tokenizer, recipe, target)
    return recipe


def main() -> None:
    """Command line: `--data` the data folder, `--out` the weights folder; `--steps` and `--articles` for a quick run."""
    default = Plan()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=weights_folder("starter-embed"))
    parser.add_argument("--articles", type=int, default=ALL_ARTICLES, help="at most this many bilingual articles")
    parser.add_argument("--steps", type=int, default=default.steps)
    parser.add_argument("--batch", type=int, default=default.batch)
    parser.add_argument("--dimensions", type=int, default=default.dimensions)
    parser.add_argument("--vocabulary", type=int, default=default.vocabulary)
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for one GPU")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    plan = replace(
        default, steps=options.steps, batch=options.batch, dimensions=options.dimensions, vocabulary=options.vocabulary, seed=options.seed
    )
    recipe = run(options.data, options.out, plan=plan, articles=options.articles, device=options.device)
    log.info("%s", json.dumps({name: recipe[name] for name in ("evaluation", "cpu_s")}, indent=1))


if __name__ == "__main__":
    main()

"""Train, measure and ship starter-reader: `python -m llmops_kit.starter.reader --data DIR`.

Japanese learns from JaQuAD, English from SQuADShifts new_wiki and the extractive half of FairytaleQA; calibration uses
JaQuAD dev and new_wiki articles kept back. JSQuAD valid and XQuAD are only measured, once, at the end.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import torch

from llmops_kit.models.span_ranker import CHECKSUMS, WEIGHTS, SpanRanker, load_rankers
from llmops_kit.models.units import Floats
from llmops_kit.starter.corpus import EVALUATION_FILES, LeakFilter, hash_file, read_evaluation
from llmops_kit.starter.reader_evaluation import calibrate, choose_sample, report, try_out
from llmops_kit.starter.reader_rows import (
    Example,
    QuestionRow,
    count_rarity,
    drop_leaks,
    hold_out,
    make_absent,
    make_examples,
    read_jsquad_rows,
    read_rows,
    shorten,
)
from llmops_kit.starter.reader_training import ReaderNetwork, ReaderSize, train
from llmops_kit.starter.reader_vectors import count_vectors, read_sentences

FILES = {"ja": ("qa/jaquad_train.jsonl.gz",), "en": ("qa/new_wiki.jsonl.gz", "qa/fairy.jsonl.gz")}
DEVELOPMENT = "qa/jaquad_dev.jsonl.gz"
VECTOR_TEXTS = "text/kyoto.jsonl.gz"
RECIPE = "recipe.json"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """How one language is trained.

    `sentences` is how many sentences of the bilingual text the word vectors see (0: no vectors). After the epochs, one more
    polishes the network on `short` rows of a few sentences and half as many of the first kind, from `polish_rate` on.
    `members` networks, alike but for their seed, answer together.
    """

    language: str
    epochs: int
    size: ReaderSize
    sentences: int
    rate: float = 3e-3
    absent_share: float = 0.25
    short: int = 12_000
    polish_rate: float = 1e-3
    held_out_titles: int = 6
    members: int = 1
    seed: int = 0


PLANS = (
    Plan("ja", 2, ReaderSize(dropout=0.15, unit_dropout=0.15), 0),
    Plan("en", 4, ReaderSize(longest=20), 250_000),
)


def read_split(folder: Path, plan: Plan, leaks: LeakFilter) -> tuple[list[QuestionRow], list[QuestionRow]]:
    """(training rows, calibration rows) of one language, neither with anything of the evaluation sets."""
    rows = [row for name in FILES[plan.language] for row in read_rows(folder / name, plan.language)]
    rows = drop_leaks(rows, leaks)
    if plan.language == "ja":
        return rows, drop_leaks(read_rows(folder / DEVELOPMENT, "ja"), leaks)
    wiki = {row.title for row in read_rows(folder / FILES["en"][0], "en")}
    kept, held = hold_out([row for row in rows if row.title in wiki], plan.held_out_titles, plan.seed + 3)
    return kept + [row for row in rows if row.title not in wiki], held


def train_language(folder: Path, plan: Plan, leaks: LeakFilter, limit: int | None) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """(arrays to ship, facts for the card) of one language; `limit` keeps only so many training questions."""
    begun = time.process_time()
    rows, held = read_split(folder, plan, leaks)
    rows = Random(plan.seed).sample(rows, min(limit or len(rows), len(rows)))
    held = Random(plan.seed + 1).sample(held, min(len(held), limit or 1500))
    idf = count_rarity(row.context for row in rows)
    vectors = make_vectors(folder, plan, rows, leaks, limit)
    examples = make_examples(rows, idf, plan.absent_share, plan.seed)
    prepared_s = time.process_time() - begun
    log.info("%s: %d questions, %d examples, prepared in %.0f CPU-s", plan.language, len(rows), len(examples), prepared_s)
    arrays: dict[str, np.ndarray] = {"idf": idf.astype(np.float16)}
    for member in range(plan.members):
        network = train_member(rows, examples, vectors, idf=idf, plan=replace(plan, seed=plan.seed + 100 * member))
        arrays |= {f"{member}/{name}": values for name, values in pack(network).items()}
    train_s = time.process_time() - begun - prepared_s
    trial = try_out(SpanRanker(arrays, plan.language), held, plan.seed)
    arrays |= calibrate(trial)
    facts = asdict(plan) | {
        "questions": len(rows), "examples": len(examples), "parameters": sum(array.size for name, array in arrays.items() if name.endswith(("weight", "bias"))),
        "calibration_questions": len(held), "prepare_cpu_s": round(prepared_s), "train_cpu_s": round(train_s),
        "development": report(SpanRanker(arrays, plan.language), trial),
    }
    log.info("%s", json.dumps(facts["development"], default=float))
    return arrays, facts


def make_vectors(folder: Path, plan: Plan, rows: Sequence[QuestionRow], leaks: LeakFilter, limit: int | None) -> Floats | None:
    """Word vectors to begin with, or None where the plan has none."""
    if not plan.sentences:
        return None
    wanted = min(plan.sentences, 10 * limit) if limit else plan.sentences
    texts = [*read_sentences(folder / VECTOR_TEXTS, plan.language, limit=wanted, leaks=leaks), *sorted({row.context for row in rows})]
    return count_vectors(texts, plan.size.words, seed=plan.seed)


def train_member(rows: Sequence[QuestionRow], examples: Sequence[Example], vectors: Floats | None, *, idf: Floats, plan: Plan) -> ReaderNetwork:
    """One network, trained and polished, all by `plan.seed`."""
    torch.manual_seed(plan.seed)
    network = ReaderNetwork(plan.size, vectors)
    train(network, examples, epochs=plan.epochs, rate=plan.rate, seed=plan.seed)
    polish(network, rows, examples, idf=idf, plan=plan)
    return network


def polish(network: ReaderNetwork, rows: Sequence[QuestionRow], examples: Sequence[Example], *, idf: Floats, plan: Plan) -> None:
    """One epoch on short texts, in place. Starts from the weights as they would be shipped."""
    short = shorten(rows, plan.short, plan.seed + 5)
    mixed = make_examples([row for row in short if row.places], idf, 0.0, plan.seed) + make_absent([row for row in short if not row.places], idf)
    mixed += Random(plan.seed + 6).sample(list(examples), min(plan.short // 2, len(examples)))
    network.load_state_dict({name: torch.from_numpy(value.astype(np.float32)) for name, value in pack(network).items()})
    torch.manual_seed(plan.seed + 7)
    train(network, mixed, epochs=1, rate=plan.polish_rate, seed=plan.seed + 7)


def pack(network: ReaderNetwork) -> dict[str, np.ndarray]:
    """The weights to ship: tables of embeddings in half precision, the rest as it is."""
    values = {name: value.numpy() for name, value in network.state_dict().items()}
    return {name: value.astype(np.float16 if value.ndim == 2 and len(value) >= 1024 else np.float32) for name, value in values.items()}


def evaluate(folder: Path, rankers: Mapping[str, SpanRanker], limit: int | None = None) -> dict[str, dict[str, float]]:
    """JSQuAD valid and XQuAD-en, the right paragraph given, and 30 % more cases with another paragraph of the article.

    `sample_em` and `sample_f1` are the part of the rows that `choose_sample` names.
    """
    rows = {"ja": [*read_jsquad_rows(folder / EVALUATION_FILES[0])], "en": [*read_rows(folder / EVALUATION_FILES[1], "en")]}
    figures = {}
    for language, ranker in rankers.items():
        trial = try_out(ranker, rows[language][:limit], 7)
        sample = choose_sample(len(trial.exact))
        figures[language] = report(ranker, trial) | {
            "sample_n": len(sample), "sample_em": 100 * trial.exact[sample].mean(), "sample_f1": 100 * trial.overlap[sample].mean(),
        }
    return figures


def ship(arrays: Mapping[str, Mapping[str, np.ndarray]], recipe: Mapping[str, object], target: Path) -> None:
    """Write weights, recipe and checksums beside `target`, then put each file in its place in one step, checksums last."""
    target.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    flat = {f"{language}/{name}": value for language, values in arrays.items() for name, value in values.items()}
    np.savez_compressed(fresh / WEIGHTS, **flat)  # type: ignore[arg-type]
    (fresh / RECIPE).write_text(json.dumps(recipe, ensure_ascii=False, indent=1, default=float) + "\n", encoding="utf-8")
    names = (RECIPE, WEIGHTS)
    (fresh / CHECKSUMS).write_text("".join(f"{hash_file(fresh / name)}  {name}\n" for name in names), encoding="utf-8")
    for name in (*names, CHECKSUMS):
        (fresh / name).chmod(0o644)
        (fresh / name).replace(target / name)
    shutil.rmtree(fresh)


def run(folder: Path, target: Path, *, limit: int | None = None, plans: Sequence[Plan] = PLANS) -> dict[str, object]:
    """The whole recipe; returns what it also writes to `recipe.json`. A language without a plan stays as `target` has it."""
    begun = time.process_time()
    torch.set_num_threads(1)
    arrays, facts, dropped, spent_s = _read_shipped(target, [plan.language for plan in plans])
    for plan in plans:
        started = time.process_time()
        leaks = LeakFilter(read_evaluation(folder))
        arrays[plan.language], facts[plan.language] = train_language(folder, plan, leaks, limit)
        dropped[plan.language], spent_s[plan.language] = leaks.dropped, round(time.process_time() - started)
    return finish(folder, target, arrays=arrays, facts={"dropped_for_overlap": dropped, "cpu_s": spent_s, "languages": facts}, limit=limit, begun=begun)


def finish(
    folder: Path, target: Path, *, arrays: Mapping[str, Mapping[str, np.ndarray]], facts: Mapping[str, object], limit: int | None, begun: float,
) -> dict[str, object]:
    """Ship, measure what was shipped as it will be loaded, and ship the figures too."""
    names = sorted({*sum(FILES.values(), ()), DEVELOPMENT, VECTOR_TEXTS, *EVALUATION_FILES})
    recipe: dict[str, object] = {
        "model": "starter-reader", "licence": "CC BY-SA 4.0", "data_sha256": {name: hash_file(folder / name) for name in names},
        **facts, "torch": torch.__version__, "machine": platform.machine(),
    }
    ship(arrays, recipe, target)
    recipe["evaluation"] = evaluate(folder, load_rankers(target), limit)
    recipe["this_run_cpu_s"] = round(time.process_time() - begun)
    ship(arrays, recipe, target)
    return recipe


def _read_shipped(target: Path, anew: Sequence[str]) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, object], dict[str, object], dict[str, object]]:
    """(arrays, facts, overlaps dropped, CPU-seconds) by language of what `target` holds, without the languages to train `anew`."""
    kept = [plan.language for plan in PLANS if plan.language not in anew]
    if not kept:
        return {}, {}, {}, {}
    recipe = json.loads((target / RECIPE).read_text(encoding="utf-8"))
    with np.load(target / WEIGHTS, allow_pickle=False) as archive:
        arrays = {language: {name.partition("/")[2]: archive[name] for name in archive.files if name.startswith(f"{language}/")} for language in kept}
    facts, dropped, spent_s = ({language: recipe[part][language] for language in kept} for part in ("languages", "dropped_for_overlap", "cpu_s"))
    return arrays, facts, dropped, spent_s


def main() -> None:
    """Command line: `--data` the data folder, `--out` the weights folder, `--limit` a quick run with few questions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "weights" / "starter-reader")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--language", choices=[plan.language for plan in PLANS], help="train only this one and keep the other as --out has it")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    plans = [replace(plan, epochs=options.epochs or plan.epochs) for plan in PLANS if options.language in (None, plan.language)]
    recipe = run(options.data, options.out, limit=options.limit, plans=plans)
    log.info("%s", json.dumps({name: recipe[name] for name in ("evaluation", "this_run_cpu_s")}, indent=1, default=float))


if __name__ == "__main__":
    main()

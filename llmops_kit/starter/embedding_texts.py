"""What starter-embed learns from and is developed on: texts of the data folder, cleaned of evaluation and held-out data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmops_kit.starter.corpus import EVALUATION_FILES, LeakFilter, Passage, Question, hash_file, normalise, read_evaluation, read_passages, read_questions

QUESTION_FILES = {"jaquad": ("qa/jaquad_train.jsonl.gz", "ja"), "new_wiki": ("qa/new_wiki.jsonl.gz", "en"), "fairy": ("qa/fairy.jsonl.gz", "en")}
ARTICLES = "text/kyoto.jsonl.gz"
DEVELOPMENT = "qa/jaquad_dev.jsonl.gz"
SCORED, SCORED_VALID = "jglue/jsts-train.json", "jglue/jsts-valid.json"
HELD_OUT_PER_MILLE = 40  # articles kept back for the cross-lingual figures, by a hash of the title
SCORED_HELD_OUT_PER_MILLE = 100  # images of the scored pairs kept back for choosing


@dataclass(frozen=True)
class Pair:
    """Two Japanese sentences and how alike people found them, 0 to 5."""

    first: str
    second: str
    score: float
    image: str


@dataclass(frozen=True)
class Bilingual:
    """The same paragraph in both languages, sentence by sentence."""

    ja: Passage
    en: Passage


@dataclass(frozen=True)
class Texts:
    """Training texts, and beside them the held-out ones for development. `dropped` counts what the filters removed."""

    questions: dict[str, list[Question]]
    paragraphs: list[Bilingual]
    scored: list[Pair]
    development: list[Question]
    held_out: list[Bilingual]
    scored_development: list[Pair]
    hashes: dict[str, str]
    dropped: dict[str, int]


def hash_share(name: str) -> int:
    """A number from 0 to 999 that depends on `name` alone: the same on every machine and in every run."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:8], "big") % 1000


def read_scored(path: Path) -> list[Pair]:
    """The pairs of JSTS. The image is that of the captions the pair was made of."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Pair(normalise(row["sentence1"]), normalise(row["sentence2"]), float(row["label"]), str(row["yjcaptions_id"]).split("-", 1)[0]) for row in rows]


def split_scored(pairs: Sequence[Pair], barred: Iterable[Pair]) -> tuple[list[Pair], list[Pair], int]:
    """(training pairs, development pairs, dropped). Nothing of `barred` is in either, no development sentence in training."""
    forbidden = {text for pair in barred for text in (pair.first, pair.second)}
    usable = [pair for pair in pairs if pair.first not in forbidden and pair.second not in forbidden]
    development = [pair for pair in usable if hash_share(pair.image) < SCORED_HELD_OUT_PER_MILLE]
    seen = {text for pair in development for text in (pair.first, pair.second)}
    training = [pair for pair in usable if hash_share(pair.image) >= SCORED_HELD_OUT_PER_MILLE and not {pair.first, pair.second} & seen]
    return training, development, len(pairs) - len(usable)


def read_texts(folder: Path, *, articles: int) -> Texts:
    """Read everything, at most `articles` bilingual articles, and drop what overlaps evaluation or held-out texts.

    Raises:
        UnreadableFile: a file of the data folder is absent.
    """
    development = list(read_questions(folder / DEVELOPMENT, "ja"))
    bilingual = [Bilingual(ja, en) for ja, en in read_passages(folder / ARTICLES, articles)]
    held_out = [row for row in bilingual if _is_held_out(row)]
    kept_back = [*development, *(_as_question(side) for row in held_out for side in (row.ja, row.en))]
    filters = {"evaluation": LeakFilter(read_evaluation(folder)), "held_out": LeakFilter(kept_back)}
    known: dict[tuple[str, str], bool] = {}

    def usable(title: str, text: str, language: str) -> bool:
        if (title, text) not in known:
            known[title, text] = not any(leaks.overlaps(title=title, text=text, language=language) for leaks in filters.values())
        return known[title, text]

    questions = {
        name: [row for row in read_questions(folder / file, language) if usable(row.title, row.context, language)]
        for name, (file, language) in QUESTION_FILES.items()
    }
    paragraphs = [row for row in bilingual if not _is_held_out(row) and all(usable(side.title, side.text, side.language) for side in (row.ja, row.en))]
    evaluation_scored = read_scored(folder / SCORED_VALID)
    scored, scored_development, scored_dropped = split_scored(read_scored(folder / SCORED), evaluation_scored)
    names = sorted([*(file for file, _ in QUESTION_FILES.values()), ARTICLES, DEVELOPMENT, SCORED, SCORED_VALID, *EVALUATION_FILES])
    return Texts(
        questions, paragraphs, scored, development, held_out, scored_development,
        hashes={name: hash_file(folder / name) for name in names},
        dropped={name: leaks.dropped for name, leaks in filters.items()} | {"jsts_valid": scored_dropped},
    )


def _is_held_out(row: Bilingual) -> bool:
    return hash_share(row.ja.title) < HELD_OUT_PER_MILLE


def _as_question(passage: Passage) -> Question:
    return Question(passage.language, passage.title, passage.text, "", "")

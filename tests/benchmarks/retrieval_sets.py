"""The questions of the retrieval benchmark: each with the position of its one right text, from the data folder beside the project."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmops_kit.starter.corpus import Question, read_passages, read_questions
from llmops_kit.starter.embedding_texts import HELD_OUT_PER_MILLE, Bilingual, hash_share

DATA = Path(__file__).parents[3] / "shared" / "data"
CROSS_LINGUAL = 1000
JAQUAD = 1500


@dataclass(frozen=True)
class Questions:
    """`asked[i]` is answered by `texts[right[i]]`."""

    name: str
    asked: list[str]
    right: np.ndarray
    texts: list[str]


def read_all() -> list[Questions]:
    """JSQuAD valid, XQuAD-en, JaQuAD dev, JSTS valid paraphrases, and English → Japanese on articles the embedder never saw."""
    jaquad = list(read_questions(DATA / "qa" / "jaquad_dev.jsonl.gz", "ja"))
    sample = np.sort(np.random.default_rng(0).permutation(len(jaquad))[:JAQUAD])
    return [
        read_jsquad(),
        _gather("XQuAD-en", list(read_questions(DATA / "qa" / "xquad_en.jsonl.gz", "en"))),
        _gather("JaQuAD dev", jaquad, sample),
        _read_paraphrases(),
        *_read_cross_lingual(),
    ]


def read_jsquad() -> Questions:
    """JSQuAD valid; a text is the title and the paragraph, as the data set has them."""
    articles = json.loads((DATA / "jglue" / "jsquad-valid.json").read_text(encoding="utf-8"))["data"]
    rows = [
        (paragraph["context"].replace(" [SEP] ", "\n"), row["question"])
        for article in articles for paragraph in article["paragraphs"] for row in paragraph["qas"]
    ]
    places = {text: place for place, text in enumerate(dict.fromkeys(text for text, _ in rows))}
    return Questions("JSQuAD valid", [asked for _, asked in rows], np.array([places[text] for text, _ in rows]), list(places))


def read_similar() -> list[tuple[str, str, float]]:
    """The pairs of JSTS valid and how alike people found them, 0 to 5."""
    rows = [json.loads(line) for line in (DATA / "jglue" / "jsts-valid.json").read_text(encoding="utf-8").splitlines()]
    return [(row["sentence1"], row["sentence2"], float(row["label"])) for row in rows]


def _gather(name: str, rows: list[Question], sample: np.ndarray | None = None) -> Questions:
    places = {text: place for place, text in enumerate(dict.fromkeys(row.context for row in rows))}
    chosen = rows if sample is None else [rows[number] for number in sample]
    return Questions(name, [row.question for row in chosen], np.array([places[row.context] for row in chosen]), list(places))


def _read_paraphrases() -> Questions:
    pairs = [(first, second) for first, second, score in read_similar() if score >= 4]
    places = {text: place for place, text in enumerate(dict.fromkeys(second for _, second in pairs))}
    return Questions("JSTS valid paraphrases", [first for first, _ in pairs], np.array([places[second] for _, second in pairs]), list(places))


def _read_cross_lingual() -> list[Questions]:
    rows = [Bilingual(ja, en) for ja, en in read_passages(DATA / "text" / "kyoto.jsonl.gz", 10**6) if hash_share(ja.title) < HELD_OUT_PER_MILLE]
    rng = np.random.default_rng(0)
    long = [row for row in rows if len(row.ja.sentences) >= 3]
    chosen = [long[number] for number in rng.permutation(len(long))[:CROSS_LINGUAL]]
    sentences = [row.en.sentences[int(rng.integers(len(row.en.sentences)))] for row in chosen]
    heads = {row.ja.title: row for row in reversed(rows)}
    questions = [f"What is {row.en.title}?" for row in heads.values()]
    return [
        Questions("English sentence → Japanese paragraph", sentences, np.arange(len(chosen)), [row.ja.text for row in chosen]),
        Questions("“What is <title>?” → Japanese paragraph", questions, np.arange(len(heads)), [row.ja.text for row in heads.values()]),
    ]

"""Figures of an embedder: retrieval, cross-lingual retrieval, graded similarity, each with n and a 95 % interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import atanh, sqrt, tanh

import numpy as np
from numpy.typing import NDArray

from llmops_kit.starter.corpus import Question
from llmops_kit.starter.embedding_texts import Bilingual, Pair

Floats = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Floats]
Figures = dict[str, float]
PARAPHRASE_SCORE = 4.0


def rank_of(queries: Floats, documents: Floats, right: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many documents score higher than the right one, for each query."""
    ranks = np.zeros(len(queries), np.int64)
    for first in range(0, len(queries), 512):
        scores = queries[first : first + 512] @ documents.T
        own = scores[np.arange(len(scores)), right[first : first + 512]]
        ranks[first : first + 512] = (scores > own[:, None]).sum(1)
    return ranks


def report_ranks(ranks: NDArray[np.int64], documents: int) -> Figures:
    """R@1, R@5 and MRR@10 in percent, half the 95 % interval of R@1 (normal approximation), n and number of documents."""
    share = float((ranks == 0).mean())
    reciprocal = np.where(ranks < 10, 1 / (ranks + 1), 0)
    return {
        "r1": round(100 * share, 1),
        "r1_interval": round(196 * sqrt(share * (1 - share) / len(ranks)), 1),
        "r5": round(100 * float((ranks < 5).mean()), 1),
        "mrr10": round(100 * float(reciprocal.mean()), 1),
        "n": len(ranks),
        "documents": documents,
    }


def measure_questions(embed: Embed, questions: Sequence[Question]) -> Figures:
    """Each question among the distinct paragraphs of all questions."""
    contexts = {text: number for number, text in enumerate(dict.fromkeys(row.context for row in questions))}
    right = np.array([contexts[row.context] for row in questions])
    return report_ranks(rank_of(embed([row.question for row in questions]), embed(list(contexts)), right), len(contexts))


def measure_cross_lingual(embed: Embed, rows: Sequence[Bilingual], *, limit: int = 1000) -> dict[str, Figures]:
    """Held-out articles: an English sentence, or the English title as a question, among Japanese paragraphs.

    Sentences: the first `limit` paragraphs of three or more sentences, in the order of a fixed shuffle; the query is
    one English sentence of each. Titles: “What is …?” among the first paragraphs of the articles.
    """
    rng = np.random.default_rng(0)
    long = [row for row in rows if len(row.ja.sentences) >= 3]
    chosen = [long[number] for number in rng.permutation(len(long))[:limit]]
    heads: dict[str, Bilingual] = {}
    for row in rows:
        heads.setdefault(row.ja.title, row)
    queries = {
        "sentence": ([row.en.sentences[int(rng.integers(len(row.en.sentences)))] for row in chosen], [row.ja.text for row in chosen]),
        "title": ([f"What is {row.en.title}?" for row in heads.values()], [row.ja.text for row in heads.values()]),
    }
    return {name: report_ranks(rank_of(embed(asked), embed(texts), np.arange(len(asked))), len(texts)) for name, (asked, texts) in queries.items()}


def measure_scored(embed: Embed, pairs: Sequence[Pair]) -> Figures:
    """Spearman of cosine and score, in percent, with its 95 % interval (Fisher's z, variance (1 + r²/2)/(n - 3); Bonett and Wright 2000)."""
    near = (embed([pair.first for pair in pairs]) * embed([pair.second for pair in pairs])).sum(1)
    rho = float(np.corrcoef(_ranks(near), _ranks(np.array([pair.score for pair in pairs])))[0, 1])
    middle = atanh(max(-1 + 1e-9, min(1 - 1e-9, rho)))
    half = 1.96 * sqrt((1 + rho * rho / 2) / (len(pairs) - 3))
    return {
        "spearman": round(100 * rho, 1),
        "low": round(100 * tanh(middle - half), 1),
        "high": round(100 * tanh(middle + half), 1),
        "n": len(pairs),
    }


def measure_paraphrases(embed: Embed, pairs: Sequence[Pair]) -> Figures:
    """The first sentence of each pair scored 4 or more among the second ones of all such pairs."""
    alike = [pair for pair in pairs if pair.score >= PARAPHRASE_SCORE]
    documents = {text: number for number, text in enumerate(dict.fromkeys(pair.second for pair in alike))}
    right = np.array([documents[pair.second] for pair in alike])
    return report_ranks(rank_of(embed([pair.first for pair in alike]), embed(list(documents)), right), len(documents))


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks from 0, ties sharing their mean."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    ranks: NDArray[np.float64] = (ends - (counts + 1) / 2)[group]
    return ranks

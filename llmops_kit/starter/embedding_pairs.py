"""Pairs of texts that belong together, as token ids, drawn batch by batch from one source at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmops_kit.starter.corpus import Question, split_sentences
from llmops_kit.starter.embedding_texts import Bilingual, Pair, Texts
from llmops_kit.starter.embedding_tokenizer import Ints, Tokens

Encode = Callable[[Sequence[str]], Tokens]
KEPT_SENTENCE = 0.2  # share of batches' rows in which a sentence stays in the paragraph it is paired with
POSITIVE_SCORE = 3.4  # pairs of JSTS at least this alike count as the same meaning


@dataclass(frozen=True)
class Batch:
    """Left and right texts of `size` pairs; equal `keys` mark rights that are the same paragraph, `scores` graded pairs."""

    left: Tokens
    right: Tokens
    keys: Ints
    scores: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Source:
    """Pairs by position: each row has a left span, a right paragraph, and in it an anchor, the place the pair is about.

    Rows stand by article: article a has the rows `articles[a]` to `articles[a + 1]`. Drawing takes up to `per_article`
    rows of an article into one batch, so that its other paragraphs are hard negatives. Where `hidden` is set, the
    anchor is the left text itself and is mostly cut out of the right one.
    """

    left: Tokens
    left_spans: tuple[Ints, Ints]
    right: Tokens
    right_spans: tuple[Ints, Ints]
    anchors: tuple[Ints, Ints]
    articles: Ints
    keys: Ints
    hidden: bool = False

    def __len__(self) -> int:
        return len(self.keys)

    def draw(self, rng: np.random.Generator, size: int, *, per_article: int, longest: int) -> Batch:
        """A batch of at most `size` pairs whose right texts have at most `longest` tokens around the anchor."""
        rows = self._choose(rng, size, per_article)
        first, last = self.right_spans[0][rows], self.right_spans[1][rows]
        anchor_first, anchor_last = self.anchors[0][rows], self.anchors[1][rows]
        keys = self.keys[rows]
        width = np.where(rng.random(len(rows)) < 0.5, longest, rng.integers(longest // 8, longest, len(rows)))
        spare = np.maximum(0, width - (anchor_last - anchor_first))
        before = (spare * rng.random(len(rows))).astype(np.int64)
        first, last = np.maximum(first, anchor_first - before), np.minimum(last, anchor_last + spare - before)
        last = np.minimum(last, first + 2 * longest)
        if self.hidden:
            kept = rng.random(len(rows)) < KEPT_SENTENCE
            gap_first, gap_last = np.where(kept, last, np.minimum(anchor_first, last)), np.where(kept, last, np.minimum(anchor_last, last))
        else:
            gap_first = gap_last = last
        right = self.right.take(np.stack([first, gap_last], 1).ravel(), np.stack([gap_first, last], 1).ravel(), pieces=2)
        left = self.left.take(self.left_spans[0][rows], self.left_spans[1][rows])
        useful = (np.diff(left.offsets) > 0) & (np.diff(right.offsets) > 0)
        return Batch(_pick(left, useful), _pick(right, useful), keys[useful])

    def _choose(self, rng: np.random.Generator, size: int, per_article: int) -> Ints:
        chosen: list[Ints] = []
        total = 0
        for article in rng.permutation(len(self.articles) - 1)[:size]:
            first, last = self.articles[article], self.articles[article + 1]
            count = min(per_article, last - first, size - total)
            chosen.append(first + rng.permutation(last - first)[:count])
            total += count
            if total >= size:
                break
        return np.concatenate(chosen)


@dataclass(frozen=True)
class ScoredSource:
    """Graded pairs: `positive` rows also count as pairs that belong together."""

    left: Tokens
    right: Tokens
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)

    def draw(self, rng: np.random.Generator, size: int, *, per_article: int, longest: int) -> Batch:
        """A batch of `size` graded pairs; the other figures do not matter here."""
        rows = rng.permutation(len(self.scores))[:size]
        left, right = (side.take(side.starts[rows], side.ends[rows]) for side in (self.left, self.right))
        return Batch(left, right, rows.astype(np.int64), self.scores[rows])


def _pick(tokens: Tokens, rows: NDArray[np.bool_]) -> Tokens:
    return tokens if rows.all() else tokens.take(tokens.starts[rows], tokens.ends[rows])


def build_sources(texts: Texts, encode: Encode) -> dict[str, Source | ScoredSource]:
    """Every source of training pairs by name, its texts encoded once. Sources without a row are left out."""
    sources: dict[str, Source | ScoredSource] = {name: _questions(rows, encode) for name, rows in texts.questions.items() if rows}
    if texts.paragraphs:
        sources |= _bilingual(texts.paragraphs, encode) | {"titles": _titles(texts.paragraphs, encode)}
    if texts.scored:
        sources["jsts"] = _scored(texts.scored, encode)
    return sources


def _scored(pairs: Sequence[Pair], encode: Encode) -> ScoredSource:
    scores = np.array([pair.score for pair in pairs], np.float32)
    return ScoredSource(encode([pair.first for pair in pairs]), encode([pair.second for pair in pairs]), scores)


def _questions(rows: Sequence[Question], encode: Encode) -> Source:
    rows = sorted(rows, key=lambda row: row.title)
    contexts = {text: number for number, text in enumerate(dict.fromkeys(row.context for row in rows))}
    sentences = [split_sentences(text) for text in contexts]
    counts = np.cumsum([0, *(len(parts) for parts in sentences)])
    right = encode([part for parts in sentences for part in parts])
    owner = np.array([contexts[row.context] for row in rows])
    place = [next((n for n, part in enumerate(sentences[c]) if row.answer in part), 0) for row, c in zip(rows, owner, strict=True)]
    anchor = counts[owner] + np.array(place)
    left = encode([row.question for row in rows])
    spans = right.offsets[counts[owner]], right.offsets[counts[owner + 1]]
    return Source(left, (left.starts, left.ends), right, spans, (right.starts[anchor], right.ends[anchor]), _bounds([row.title for row in rows]), owner)


def _bilingual(paragraphs: Sequence[Bilingual], encode: Encode) -> dict[str, Source | ScoredSource]:
    """Sentence and rest of its paragraph (ja, en), sentence and translation, sentence and the paragraph in the other language."""
    rows = sorted(paragraphs, key=lambda row: row.ja.title)
    counts = np.array([len(row.ja.sentences) for row in rows])
    ja, en = encode([s for row in rows for s in row.ja.sentences]), encode([s for row in rows for s in row.en.sentences])
    bounds = np.cumsum([0, *counts])
    owner = np.repeat(np.arange(len(rows)), counts)
    titles = [rows[number].ja.title for number in owner]
    several = counts[owner] > 1

    def source(left: Tokens, right: Tokens, chosen: NDArray[np.bool_], *, whole: bool, hidden: bool = False) -> Source:
        kept = np.flatnonzero(chosen)
        own = owner[kept]
        anchors = right.starts[kept], right.ends[kept]
        spans = (right.offsets[bounds[own]], right.offsets[bounds[own + 1]]) if whole else anchors
        return Source(left, (left.starts[kept], left.ends[kept]), right, spans, anchors, _bounds([titles[n] for n in kept]), spans[0], hidden)

    every = np.ones(len(owner), bool)
    return {
        "kyoto_ja": source(ja, ja, several, whole=True, hidden=True),
        "kyoto_en": source(en, en, several, whole=True, hidden=True),
        "kyoto_sentences": source(ja, en, every, whole=False),
        "kyoto_ja_en": source(ja, en, every, whole=True),
        "kyoto_en_ja": source(en, ja, every, whole=True),
    }


def _titles(paragraphs: Sequence[Bilingual], encode: Encode) -> Source:
    """Titles with their translation and, in either language, with the first paragraph."""
    first: dict[str, Bilingual] = {}
    for row in paragraphs:
        first.setdefault(row.ja.title, row)
    pairs = [
        pair
        for row in first.values()
        for pair in ((row.ja.title, row.en.title), (row.ja.title, row.ja.text), (row.en.title, row.ja.text), (row.ja.title, row.en.text))
    ]
    left, right = encode([a for a, _ in pairs]), encode([b for _, b in pairs])
    spans = right.starts, right.ends
    heads = right.starts, np.minimum(right.ends, right.starts + 8)
    return Source(left, (left.starts, left.ends), right, spans, heads, np.arange(0, len(pairs) + 1, 4), np.arange(len(pairs)) // 4)


def _bounds(titles: Sequence[str]) -> Ints:
    changes = [0, *(n for n in range(1, len(titles)) if titles[n] != titles[n - 1]), len(titles)]
    return np.array(changes, np.int64)

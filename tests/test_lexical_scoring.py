"""Scoring a few texts of many gives the scores that an index of all of them gives."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_kit.models.lexical import LexicalIndex, tokenize, tokenize_query
from llmops_kit.models.lexical_scoring import Statistics, TermCounter, score_texts

MIXED = st.text(alphabet="ああい有給章第13a b,ー_😀☀\u200dｱﾊﾟé\u0301İ々・。、한글𠮷０", max_size=50)
TEXTS = ["有給休暇は年20日です。", "第3章 休暇、第13章 給与", "Paid leave is 20 days.", "ああああ 😀😀", "", "。。。", "長い" * 3000, "休暇 休暇 3,000円"]


@settings(max_examples=300, deadline=None)
@given(MIXED | st.text(max_size=40), MIXED | st.text(max_size=40))
def test_counts_are_those_of_all_terms(query: str, text: str) -> None:
    text = f"{text}{query[:20]}{text}"
    terms, every = Counter(tokenize(query)), Counter(tokenize(text))
    counts, length = TermCounter(terms).count(text)
    assert length == every.total()
    assert counts == {term: every[term] for term in terms if term in every}


@pytest.mark.parametrize("query", ["有給", "第3章", "3章", "休暇 休暇は", "ああ", "😀", "What is paid leave?", "長い長い", "3000円", "。", "無い語"])
def test_scores_are_those_of_the_index(query: str) -> None:
    index = LexicalIndex(TEXTS)
    terms = Counter(tokenize_query(query))
    cut = [Counter(tokenize(text)) for text in TEXTS]
    frequencies = {term: sum(term in counted for counted in cut) for term in terms}
    known = Statistics(len(TEXTS), float(np.mean([counted.total() for counted in cut])), frequencies)
    assert score_texts(terms, TEXTS, known) == pytest.approx(index.scores(query), rel=1e-5)
    assert known.ceiling(terms) == pytest.approx(index.ceiling(query))

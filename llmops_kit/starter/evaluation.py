"""What the trained model is measured on: held-out rows of every kind, and answers of JSQuAD valid and XQuAD put into sentences."""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

from llmops_kit.starter import lexicon, talk
from llmops_kit.starter.corpus import Corpus, split_sentences
from llmops_kit.starter.curriculum import LANGUAGES, Curriculum
from llmops_kit.starter.passages import SPAN_ASKS, span_row
from llmops_kit.starter.rows import Row
from llmops_kit.starter.training import answer_rows

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

SPAN_QUESTIONS = 200
MAX_NEW_TOKENS = 160


def accepts(row: Row, answer: str | None) -> bool:
    """Whether `answer` is right: equal to the taught one, or for the open kinds one of the taught patterns on the same topic."""
    if answer is None:
        return False
    if row.kind == "greet":
        return any(row.user in asks and answer in answers for asks, answers in talk.GREETINGS[row.language])
    if row.kind == "write":
        return any(answer == form.format(t=topic) for topic in _topics(row) for form in talk.WRITE_FORMS[row.language])
    if row.kind == "ideas":
        lines = [line.lstrip("・- ") for line in answer.split("\n")]
        return any(
            len(lines) == 3 and all(line in [form.format(t=topic) for form in talk.IDEA_FORMS[row.language]] for line in lines) for topic in _topics(row)
        )
    return answer == row.answer


def _topics(row: Row) -> list[str]:
    """The topics that occur in the request, the longest first."""
    side = 0 if row.language == "ja" else 1
    nouns = [pair[side] for pair in (*lexicon.FRUITS, *lexicon.ANIMALS, *lexicon.THINGS)]
    known = [pair[side] for pair in lexicon.TOPICS] + (nouns if side == 0 else [f"the {noun}" for noun in nouns])
    return sorted((topic for topic in known if topic in row.user), key=len, reverse=True)[:1]


def faithful(row: Row, answer: str | None) -> bool:
    """Whether every sentence of `answer` stands word for word in the request."""
    return answer is not None and bool(answer.strip()) and all(part in row.user for part in split_sentences(answer))


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927), in per cent."""
    if not count:
        return 0.0, 100.0
    share, z2 = hits / count, 1.96**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    margin = 1.96 * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return round(100 * max(0.0, middle - margin), 1), round(100 * min(1.0, middle + margin), 1)


def evaluate(model: LlamaForCausalLM, tokenizer: Tokenizer, curriculum: Curriculum, corpus: Corpus, *, rows: int) -> dict[str, object]:
    """Greedy answers to up to `rows` held-out rows per kind and language, and to 200 evaluation questions per language."""
    report: dict[str, object] = {}
    for kind in curriculum.kinds:
        for language in LANGUAGES:
            report[f"{kind}/{language}"] = score(model, tokenizer, curriculum.held_out(kind, language, count=rows))
    rng = Random(11)
    for name, language in (("jsquad_valid", "ja"), ("xquad", "en")):
        questions = [row for row in corpus.evaluation if row.language == language and len(row.answer) <= 40]
        wordings = sorted(set(SPAN_ASKS[language]))  # each as often as any other
        chosen = [span_row(rng, row, asks=wordings) for row in rng.sample(questions, min(SPAN_QUESTIONS, len(questions)))]
        report[f"sentence_around_answer/{name}"] = score(model, tokenizer, chosen)
    return report


def score(model: LlamaForCausalLM, tokenizer: Tokenizer, rows: list[Row]) -> dict[str, object]:
    """Right answers, their share with its interval, how often the model stopped by itself, and two examples."""
    answers = answer_rows(model, tokenizer, rows, max_new_tokens=MAX_NEW_TOKENS)
    hits = sum(map(accepts, rows, answers))
    result: dict[str, object] = {
        "n": len(rows),
        "right": hits,
        "right_percent": round(100 * hits / max(1, len(rows)), 1),
        "interval_95": wilson(hits, len(rows)),
        "stopped": sum(answer is not None for answer in answers),
        "examples": [{"user": row.user[-120:], "taught": row.answer, "model": answer} for row, answer in list(zip(rows, answers, strict=True))[:2]],
    }
    if rows and rows[0].kind in ("summary", "list", "repeat", "quote"):
        result["word_for_word"] = sum(
            map(faithful, rows, [answer and answer.replace("・", "").replace("- ", "") if rows[0].kind == "list" else answer for answer in answers])
        )
    return result

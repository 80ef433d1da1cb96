"""What the trained model is measured on: held-out rows of every kind, and answers of JSQuAD valid and XQuAD put into sentences."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from llmops_kit.starter import lexicon, library_kinds, library_mail, talk
from llmops_kit.starter.corpus import Corpus, split_sentences
from llmops_kit.starter.curriculum import LANGUAGES, Curriculum
from llmops_kit.starter.passages import SPAN_ASKS, span_row
from llmops_kit.starter.rows import Row
from llmops_kit.starter.training import answer_rows

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

SPAN_QUESTIONS = 200
MAX_NEW_TOKENS = 256


def accepts(row: Row, answer: str | None) -> bool:
    """Whether `answer` is right: equal to the taught one, or for the open kinds one of the taught patterns on the same topic.

    Both sides in NFKC, which is all the tokenizer can write. Of the kinds in `FORM_ONLY` the form alone is judged.
    """
    if answer is None:
        return False
    answer = _nfkc(answer)
    if row.kind in OPEN_KINDS:
        return OPEN_KINDS[row.kind](row, answer)
    return answer == _nfkc(row.answer)


def _nfkc(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _greets(row: Row, answer: str) -> bool:
    return any(row.user in asks and answer in map(_nfkc, answers) for asks, answers in talk.GREETINGS[row.language])


def _writes(row: Row, answer: str) -> bool:
    return any(answer == _nfkc(form.format(t=topic)) for topic in _topics(row) for form in talk.WRITE_FORMS[row.language])


def _lists_ideas(row: Row, answer: str) -> bool:
    lines = {line.lstrip("・- ") for line in answer.split("\n")}
    return len(lines) == answer.count("\n") + 1 == 3 and any(
        lines <= {_nfkc(form.format(t=topic)) for form in talk.IDEA_FORMS[row.language]} for topic in _topics(row)
    )


def _brainstorms(row: Row, answer: str) -> bool:
    """As many lines as asked for, each a taught idea, no idea twice: another day or number does not make it another idea."""
    slots = {"{d}": f"(?:{'|'.join(library_mail.DAYS[row.language])})", "{n}": r"\d"}
    found = []
    for line in answer.split("\n"):
        for form in library_mail.IDEAS[row.language]:
            parts = [slots.get(part) or re.escape(_nfkc(part)) for part in re.split(r"(\{[dn]\})", form)]
            if re.fullmatch("".join(parts), line):
                found.append(form)
    return len(set(found)) == len(found) == answer.count("\n") + 1 == _count_asked(row)


def _explains(row: Row, answer: str) -> bool:
    """A taught form for what was asked, plain words or a comparison, on the topic asked."""
    instruction, topic = row.user.split("\n\n", 1)
    compared = instruction == library_kinds.EXPLAIN[row.language][1]
    forms = (library_kinds.COMPARISONS if compared else library_kinds.PLAIN_ANSWERS)[row.language]
    return any(answer == _nfkc(form.format(t=topic)) for form in forms)


def _asks(row: Row, answer: str) -> bool:
    """As many different lines as asked for, each of which ends as a question does. Whether they make sense is not judged."""
    lines = answer.split("\n")
    ends = ("?", "か。", "か") if row.language == "ja" else ("?",)
    return len(set(lines)) == len(lines) == _count_asked(row) and all(line.endswith(ends) and len(line) > 3 for line in lines)


def _count_asked(row: Row) -> int | None:
    found = re.search(r"^N = (\d+)$", row.user, re.MULTILINE)
    return int(found[1]) if found else None


OPEN_KINDS: dict[str, Callable[[Row, str], bool]] = {
    "greet": _greets,
    "write": _writes,
    "ideas": _lists_ideas,
    "brainstorm": _brainstorms,
    "explain": _explains,
    "questions": _asks,
}
FORM_ONLY = frozenset({"questions"})
"""Kinds whose right answers cannot be told: many questions fit a text, and most that look like questions do not."""


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
    """Right answers (or answers of the right form), their share with its interval, how often the model stopped by itself, and two examples."""
    answers = answer_rows(model, tokenizer, rows, max_new_tokens=MAX_NEW_TOKENS)
    hits = sum(map(accepts, rows, answers))
    judged = "form" if rows and rows[0].kind in FORM_ONLY else "right"
    result: dict[str, object] = {
        "n": len(rows),
        judged: hits,
        f"{judged}_percent": round(100 * hits / max(1, len(rows)), 1),
        "interval_95": wilson(hits, len(rows)),
        "stopped": sum(answer is not None for answer in answers),
        "examples": [{"user": row.user[-120:], "taught": row.answer, "model": answer} for row, answer in list(zip(rows, answers, strict=True))[:2]],
    }
    if rows and rows[0].kind in ("summary", "list", "repeat", "quote"):
        result["word_for_word"] = sum(
            map(faithful, rows, [answer and answer.replace("・", "").replace("- ", "") if rows[0].kind == "list" else answer for answer in answers])
        )
    return result

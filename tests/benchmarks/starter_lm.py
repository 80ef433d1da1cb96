"""What the shipped starter-lm can do, from its weights: taught kinds on held-out rows, sentences around answers, temperature.

Each share stands beside the best of five trivial answers; which one is best is decided on training rows.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from llmops_kit import open_kit
from llmops_kit.starter import weights_folder
from llmops_kit.starter.corpus import Corpus, read_corpus, split_sentences
from llmops_kit.starter.curriculum import LANGUAGES, Curriculum
from llmops_kit.starter.evaluation import FORM_ONLY, MAX_NEW_TOKENS, SPAN_QUESTIONS, accepts, wilson
from llmops_kit.starter.passages import SPAN_ASKS, sentence_around, span_row
from llmops_kit.starter.recipe import ARTICLES, WEIGHTS_OF, build_curriculum
from llmops_kit.starter.rows import Row
from llmops_kit.starter.shipping import RECIPE
from llmops_kit.starter.training import answer_rows

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ROWS = 50  # held-out rows per kind and language
DRAWN = 16_000  # training rows that the trivial answers are chosen on
SAMPLES = 20
TEMPERATURES = (0.0, 0.2, 0.7, 1.0, 1.3)
REQUESTS = {
    "write/ja": "「海」について一文書いてください。",
    "write/en": "Write one sentence about the sea.",
    "summary/ja": "次の文章を3文以内で要約してください。\n\n市立図書館は来月から平日の開館時間を延ばします。土曜と日曜の時間は変わりません。",
    "summary/en": "Summarize the following text in at most three sentences.\n\nThe library will open until nine on weekdays. Weekends stay the same.",
}
SPAN = re.compile(r"(?:答え|Answer|A)\s?[:：]\s?(.+)|(?:答えは「|is \")(.+?)(?:」です|\"\. Answer)")

Trivial = Callable[[Row], str]


def run(rows: int = ROWS) -> None:
    """Print the tables; without the data folder, only the response to temperature."""
    if (DATA / "qa").is_dir():
        _run_tasks(rows)
    else:
        print(f"Skipped: tasks and sentences, because the data folder is not at {DATA}.")
    _run_temperature()


def _run_tasks(rows: int) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    folder = weights_folder("starter-lm")
    model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True).float().eval()
    tokenizer = AutoTokenizer.from_pretrained(folder).backend_tokenizer
    corpus = read_corpus(DATA, articles=ARTICLES)
    size = json.loads((folder / RECIPE).read_text(encoding="utf-8"))["size"]
    curriculum = build_curriculum(corpus, WEIGHTS_OF[size])
    _print_kinds(model, tokenizer, curriculum, rows)
    _print_sentences(model, tokenizer, corpus, SPAN_QUESTIONS if rows == ROWS else rows)


def _print_kinds(model: LlamaForCausalLM, tokenizer: Tokenizer, curriculum: Curriculum, rows: int) -> None:
    rng = Random(31)
    drawn: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for _ in range(DRAWN):
        row = curriculum.draw(rng)
        drawn[row.kind, row.language].append(row)
    print("| kind | language | n | right (95 %) | stopped | trivial answer | trivially right (95 %) | ratio |\n|---|---|---|---|---|---|---|---|")
    total: Counter[tuple[str, str]] = Counter()
    for kind in sorted(curriculum.kinds):
        for language in LANGUAGES:
            held_out = curriculum.held_out(kind, language, count=rows)
            answers = answer_rows(model, tokenizer, held_out, max_new_tokens=MAX_NEW_TOKENS)
            name, trivial = _choose_trivial(drawn[kind, language])
            right, easy = sum(map(accepts, held_out, answers)), sum(accepts(row, trivial(row)) for row in held_out)
            stopped = sum(answer is not None for answer in answers)
            for key, count in () if kind in FORM_ONLY else (("n", len(held_out)), ("right", right), ("easy", easy), ("stopped", stopped)):
                total[language, key] += count
            ours, theirs = _share(right, len(held_out)), _share(easy, len(held_out))
            title = f"{kind} (form alone)" if kind in FORM_ONLY else kind
            print(f"| {title} | {language} | {len(held_out)} | {ours} | {stopped} | {name} | {theirs} | {_ratio(right, easy)} |")
    for language in LANGUAGES:
        count, right, stopped, easy = (total[language, key] for key in ("n", "right", "stopped", "easy"))
        print(f"| all | {language} | {count} | {_share(right, count)} | {stopped} | the best for each kind | {_share(easy, count)} | {_ratio(right, easy)} |")


def _print_sentences(model: LlamaForCausalLM, tokenizer: Tokenizer, corpus: Corpus, count: int) -> None:
    """The questions of the model card: same choice, same wording."""
    print("\nAn answer of an evaluation set put into a sentence; the fixed template reads the answer off the request:\n")
    print("| set | n | right (95 %) | answer in output | stopped | fixed template | ratio |\n|---|---|---|---|---|---|---|")
    rng = Random(11)
    for name, language in (("JSQuAD valid", "ja"), ("XQuAD-en", "en")):
        questions = [row for row in corpus.evaluation if row.language == language and len(row.answer) <= 40]
        chosen = rng.sample(questions, min(SPAN_QUESTIONS, len(questions)))
        wordings = sorted(set(SPAN_ASKS[language]))  # each as often as any other
        rows = [span_row(rng, row, asks=wordings) for row in chosen][:count]
        answers = answer_rows(model, tokenizer, rows, max_new_tokens=MAX_NEW_TOKENS)
        right, easy = sum(map(accepts, rows, answers)), sum(accepts(row, _fill_template(row)) for row in rows)
        inside = sum(question.answer in (answer or "") for question, answer in zip(chosen, answers, strict=False))
        stopped = sum(answer is not None for answer in answers)
        print(f"| {name} | {len(rows)} | {_share(right, len(rows))} | {inside} | {stopped} | {_share(easy, len(rows))} | {_ratio(right, easy)} |")


def _choose_trivial(rows: Sequence[Row]) -> tuple[str, Trivial]:
    """The trivial answer that is right most often on training rows."""
    usual = Counter(row.answer for row in rows).most_common(1)[0][0]
    candidates: dict[str, Trivial] = {
        "most frequent answer": lambda _: usual,
        "first sentence": lambda row: (split_sentences(_longest_line(row)) or ("",))[0],
        "longest line": _longest_line,
        "last line": lambda row: row.user.strip().split("\n")[-1],
        "span in template": _fill_template,
    }
    return max(candidates.items(), key=lambda item: sum(accepts(row, item[1](row)) for row in rows))


def _longest_line(row: Row) -> str:
    return max(row.user.split("\n"), key=len).strip()


def _fill_template(row: Row) -> str:
    found = SPAN.search(row.user)
    return sentence_around(row.language, (found[1] or found[2]).strip()) if found else ""


def _run_temperature() -> None:
    print(f"\nDifferent answers among {SAMPLES} (seeds 0 to {SAMPLES - 1}), and how many stopped by themselves within 96 tokens:\n")
    print("| request | " + " | ".join(f"T = {value:g}" for value in TEMPERATURES) + " |\n" + "|---" * (1 + len(TEMPERATURES)) + "|")
    with tempfile.TemporaryDirectory() as folder, open_kit(folder) as kit:
        chat = kit.models.chat("starter-lm")
        for name, request in REQUESTS.items():
            cells = []
            for temperature in TEMPERATURES:
                replies = [chat.invoke(request, temperature=temperature, seed=seed, max_tokens=96) for seed in range(SAMPLES)]
                stopped = sum(reply.response_metadata["finish_reason"] == "stop" for reply in replies)
                cells.append(f"{len({reply.text for reply in replies})} ({stopped} stopped)")
            print(f"| {name} | " + " | ".join(cells) + " |")
    print("\nThe trivial baseline is T = 0: one answer, whatever the seed.")


def _share(hits: int, count: int) -> str:
    low, high = wilson(hits, count)
    return f"{100 * hits / max(1, count):.0f} % ({low:.0f}–{high:.0f})"


def _ratio(ours: int, baseline: int) -> str:
    return f"{ours / baseline:.2f}×" if baseline else "∞" if ours else "–"

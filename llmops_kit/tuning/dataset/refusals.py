"""Why nothing can be learnt from a data set, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmops_kit.tuning.dataset.rows import Bilingual, Example, Problem

LEAST_ROWS = 2  # one to learn from and one to measure with


def refuse_rows(
    examples: Sequence[Example], different: Sequence[Example], problems: Sequence[Problem], *, columns: Mapping[str, str], available: Sequence[str]
) -> Bilingual | None:
    """The reason in `en` and `ja`; None where there is something to learn. `different` are the examples without repetitions."""
    if not examples:
        return _tell_problems(problems) if problems else _ask_for_columns(columns, available)
    count, unique = len(examples), len(different)
    if count < LEAST_ROWS:
        wrong = len(problems)
        left_en, left_ja = (f" ({wrong:,} others cannot be used)", f"（ほかの{wrong:,}行は使えません）") if wrong else ("", "")
        en = f"There is only one row{left_en}. At least two different ones are needed, one to learn from and one to measure with; 30 or more are better."
        return {"en": en, "ja": f"行が1つしかありません{left_ja}。学習用と評価用に、異なる行が少なくとも2つ必要です（30行以上をお勧めします）。"}
    if unique < LEAST_ROWS:
        en = f"All {count:,} rows are the same (after Unicode normalisation), so there is only one row to learn from. Add different ones."
        return {"en": en, "ja": f"{count:,}行がすべて同じ内容（正規化後）です。学習できる行は1つしかありません。異なる行を追加してください。"}
    return _miss_other_label(different)


def _miss_other_label(examples: Sequence[Example]) -> Bilingual | None:
    """Answers that all have the same label: what is learnt from labels is the difference, and there is none."""
    labels = {example.label for example in examples}
    if labels not in ({True}, {False}):
        return None
    said, missing = ("good (true)", "bad (false)") if True in labels else ("bad (false)", "good (true)")
    said_ja, missing_ja = ("良い（true）", "悪い（false）") if True in labels else ("悪い（false）", "良い（true）")
    return {
        "en": f"All {len(examples):,} answers are labelled {said}. Add {missing} ones; or, to learn the answers themselves, take the label column out.",
        "ja": f"{len(examples):,}件の回答のラベルがすべて「{said_ja}」です。「{missing_ja}」の回答も加えてください。"
        "回答をそのまま手本にするなら、ラベルの列を外してください。",
    }


def _ask_for_columns(columns: Mapping[str, str], available: Sequence[str]) -> Bilingual:
    listed = ", ".join(available) or "–"
    found = ", ".join(f"{role}={column}" for role, column in columns.items())
    found_en, found_ja = (f" Recognised so far: {found}.", f"分かった列：{found}。") if found else ("", "")
    return {
        "en": f"No answers were found to learn from. Say which column is the prompt and which the answer; columns: {listed}.{found_en} "
        'For example columns={"prompt": "…", "answer": "…"}, or chosen and rejected for pairs.',
        "ja": f"学習する回答が見つかりません。どの列が指示で、どの列が回答かを指定してください。列：{listed}。{found_ja}"
        '例：columns={"prompt": "…", "answer": "…"}（選好の組ならchosenとrejected）。',
    }


def _tell_problems(problems: Sequence[Problem]) -> Bilingual:
    first, count = problems[0], len(problems)
    return {
        "en": f"None of the {count:,} rows can be learnt from. The first, line {first.line:,}: {first.reason['en']}.",
        "ja": f"{count:,}行のどれも学習に使えません。最初の問題は{first.line:,}行目：{first.reason['ja']}。",
    }

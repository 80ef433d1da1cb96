"""A check report in words, in English and Japanese."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from llmops_kit.personal_data import LABELS

if TYPE_CHECKING:
    from llmops_kit.tuning.dataset.findings import Findings
    from llmops_kit.tuning.dataset.rows import Bilingual

_SHOWN = 5
_FEW_ROWS = 30
_KINDS = {
    "sft": {"en": "answers to copy", "ja": "手本となる回答"},
    "dpo": {"en": "pairs of answers, one preferred", "ja": "選好の組（良い回答と悪い回答）"},
    "kto": {"en": "good and bad answers", "ja": "良い回答と悪い回答（ラベル付き）"},
}
_LANGUAGES = {
    "ja": ("Japanese", "日本語"), "en": ("English", "英語"), "zh": ("Chinese", "中国語"), "ko": ("Korean", "韓国語"), "other": ("no letters", "文字なし"),
}  # fmt: skip


def tell_report(report: Findings, language: str) -> list[str]:
    """The lines of the report in `en` or `ja`: what it is, why it cannot be trained on where it cannot, and what was found."""
    refusal = report.refusal[language] if report.refusal else ""
    lines = [_tell_rows(report, language), refusal, _tell_lengths(report, language), _tell_languages(report, language)]
    if report.labels:
        most = ", ".join(f"{label} {count:,}" for label, count in list(report.labels.items())[:_SHOWN])
        lines.append({"en": f"Labels: {most}.", "ja": f"ラベル：{most}。"}[language])
    lines += [warning[language] for warning in tell_warnings(report)]
    form = {"en": "Line {line:,}: {reason}.", "ja": "{line:,}行目：{reason}。"}[language]
    lines += [form.format(line=problem.line, reason=problem.reason[language].rstrip(".。")) for problem in report.problems[:_SHOWN]]
    if (left := len(report.problems) - _SHOWN) > 0:
        lines.append({"en": f"… and {left:,} more.", "ja": f"…ほか{left:,}件。"}[language])
    return [line for line in lines if line]


def tell_warnings(report: Findings) -> tuple[Bilingual, ...]:
    """What to look at before the start, the weightiest first."""
    said = [*_warn_of_leakage(report), *_warn_of_personal_data(report), *report.one_sided, *_warn_of_rows(report), *_warn_of_copies(report)]
    if report.truncated_share:
        en = f"{_percent(report.truncated_share)} of the rows are longer than {report.max_tokens:,} tokens and lose the beginning of their prompt."
        said.append({"en": en, "ja": f"{_percent(report.truncated_share)}の行が{report.max_tokens:,}トークンを超え、指示の先頭が切り捨てられます。"})
    if 0 < report.kept < _FEW_ROWS and not report.refusal:
        en = f"{report.kept:,} rows are few: the model may learn them by heart. 30 or more are better."
        said.append({"en": en, "ja": f"{report.kept:,}行では少なめです。丸暗記になりやすいため、30行以上をお勧めします。"})
    return tuple(said)


def _tell_rows(report: Findings, language: str) -> str:
    kind = _KINDS[report.kind][language]
    if report.refusal:
        if language == "ja":
            return f"「{report.name}」：{report.rows:,}行（形式：{report.format}、{kind}）。"
        return f"“{report.name}”: {report.rows:,} rows (format {report.format}: {kind})."
    if language == "ja":
        split = f"学習用{report.train_rows:,}行、評価用{report.eval_rows:,}行。" if report.kept else ""
        return f"「{report.name}」：{report.rows:,}行中{report.kept:,}行を使います（形式：{report.format}、{kind}）。{split}"
    split = f" {report.train_rows:,} to train on, {report.eval_rows:,} to evaluate." if report.kept else ""
    return f"“{report.name}”: {report.kept:,} of {report.rows:,} rows can be used (format {report.format}: {kind}).{split}"


def _tell_lengths(report: Findings, language: str) -> str:
    if not report.tokens:
        return ""
    ordered = sorted(report.tokens)
    middle, longest, total = ordered[len(ordered) // 2], ordered[-1], sum(ordered)
    if language == "ja":
        return f"長さは中央値{middle:,}、最長{longest:,}、合計{total:,}トークン（{report.base}で数えた値）。"
    return f"Length: median {middle:,}, longest {longest:,}, together {total:,} tokens (as {report.base} counts them)."


def _tell_languages(report: Findings, language: str) -> str:
    if not report.languages:
        return ""
    place = 1 if language == "ja" else 0
    names = ", ".join(f"{_LANGUAGES.get(code, (code, code))[place]} {count:,}" for code, count in report.languages.items())
    return f"言語：{names.replace(', ', '、')}。" if language == "ja" else f"Languages: {names}."


def _warn_of_leakage(report: Findings) -> list[Bilingual]:
    said: list[Bilingual] = []
    sets = {leak.where["en"]: leak.where for leak in report.leakage}
    for name, where in sets.items():
        leaks = [leak for leak in report.leakage if leak.where["en"] == name]
        lines = _list(leak.line for leak in leaks)
        en = f"{_rows(len(leaks))} also in {where['en']} (line {lines}): what is measured there after training would flatter."
        said.append({"en": en, "ja": f"{len(leaks):,}行が{where['ja']}にもあります（{lines}行目）。学習後にそこで測る値は実際より良く見えます。"})
    return said


def _warn_of_personal_data(report: Findings) -> list[Bilingual]:
    if not report.personal_data:
        return []
    counts = Counter(found.kind for found in report.personal_data)
    lines = _list(sorted({found.line for found in report.personal_data}))
    en = ", ".join(f"{LABELS[kind]['en']} ({count:,})" for kind, count in counts.items())
    ja = "、".join(f"{LABELS[kind]['ja']} {count:,}件" for kind, count in counts.items())
    return [{"en": f"Personal data found: {en}; line {lines}. A tuned model can repeat it. Remove or replace it.",
             "ja": f"個人情報の可能性：{ja}（{lines}行目）。学習したモデルがそのまま答えることがあります。削除するか置き換えてください。"}]  # fmt: skip


def _warn_of_rows(report: Findings) -> list[Bilingual]:
    if not report.problems or report.refusal:
        return []
    count = len(report.problems)
    en = "1 row cannot be used and is left out." if count == 1 else f"{count:,} rows cannot be used and are left out."
    return [{"en": en, "ja": f"{count:,}行は使えないため除きます。"}]


def _warn_of_copies(report: Findings) -> list[Bilingual]:
    said: list[Bilingual] = []
    if count := len(report.duplicates):
        lines = _list(line for line, _ in report.duplicates)
        en = f"{_rows(count)} the same as an earlier one (line {lines}); each is used once."
        said.append({"en": en, "ja": f"{count:,}行が前の行と同じ内容です（{lines}行目）。1回だけ使います。"})
    if pairs := report.near_duplicates:
        near = sorted({line for line, _ in pairs})
        shown = "; ".join(f"{line:,} ≈ {other:,}" for line, other in pairs[:_SHOWN])
        en = f"{_rows(len(near))} nearly the same as another (line {shown}); they stay on one side of the split."
        said.append({"en": en, "ja": f"{len(near):,}行が別の行とほぼ同じです（{shown}行目）。学習用と評価用に分かれないようにします。"})
    if report.compared < report.kept:
        en = f"Near-duplicates were looked for among the first {report.compared:,} rows only."
        said.append({"en": en, "ja": f"ほぼ同じ行は、先頭の{report.compared:,}行だけで調べました。"})
    return said


def _rows(count: int) -> str:
    return "1 row is" if count == 1 else f"{count:,} rows are"


def _list(lines: Iterable[int]) -> str:
    numbers = list(dict.fromkeys(lines))
    return ", ".join(f"{number:,}" for number in numbers[:_SHOWN]) + (", …" if len(numbers) > _SHOWN else "")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"

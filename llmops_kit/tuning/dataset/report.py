"""What is to be known of a data set before anything runs: `check_dataset`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from llmops_kit.errors import KitError
from llmops_kit.models.languages import find_languages
from llmops_kit.personal_data import find_personal_data
from llmops_kit.tuning.dataset.examples import Dataset
from llmops_kit.tuning.dataset.findings import Finding, Findings
from llmops_kit.tuning.dataset.leakage import find_leakage
from llmops_kit.tuning.dataset.rows import Bilingual, Example, Kind, Problem
from llmops_kit.tuning.dataset.similarity import MOST_ROWS
from llmops_kit.tuning.spec import TuneSpec

if TYPE_CHECKING:
    from llmops_kit.models import Models
    from llmops_kit.store import Store

_BINS = 12
_MOST_LABELS = 20
_LABEL_CHARACTERS = 30
_LANGUAGE_CHARACTERS = 120  # of a row, enough to tell its language
_LOPSIDED = 0.8
_CHINESE_OR_KANA = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")


@dataclass(frozen=True)
class CheckReport(Findings):
    """The findings in a data set, and how they are told."""

    @property
    def warnings(self) -> tuple[Bilingual, ...]:
        """What a person should look at before the start, in `en` and `ja`, the weightiest first."""
        from llmops_kit.tuning.dataset.report_text import tell_warnings

        return tell_warnings(self)

    def text(self, language: str = "en") -> str:
        """The report in `en` or `ja`, one line per finding."""
        from llmops_kit.tuning.dataset.report_text import tell_report

        return "\n".join(tell_report(self, "ja" if language.startswith("ja") else "en"))

    def html(self, language: Literal["en", "ja"] | None = None) -> str:
        """The report with a small histogram of the lengths, in one language or (None) in both."""
        from llmops_kit.tuning.dataset.report_html import to_html

        return to_html(self, ("ja", "en") if language is None else (language,))

    def _repr_html_(self) -> str:
        return self.html()


def check_dataset(dataset: Dataset, models: Models, store: Store, *, base: str, max_tokens: int | None = None) -> CheckReport:
    """Measure `dataset` as `base` would read it. `max_tokens` is the longest row taken (default: what the model takes).

    Leakage is looked for among the rows that are trained on with the default split. Nothing of the data set is changed or kept.

    Raises: `UnknownName`, `InvalidValue`, `ModelNotReady` for a base that is not there, cannot be tuned or is not ready.
    """
    entry = models.get(base)
    limit = max_tokens or entry.context_tokens
    lengths, unread = _measure(dataset, models, base)
    fields = TuneSpec.model_fields
    train, evaluation = dataset.split(fields["eval_share"].default, fields["seed"].default)
    unique = dataset.unique
    first = {example.id: example.line for example in unique}
    problems = tuple(sorted((*dataset.problems, *unread), key=lambda problem: problem.line))
    return CheckReport(
        name=dataset.name,
        kind=dataset.kind,
        format=dataset.format,
        base=base,
        rows=len(dataset.examples) + len(dataset.problems),
        kept=len(unique) - len(unread),
        problems=problems,
        tokens=tuple(lengths),
        max_tokens=limit,
        histogram=_histogram(lengths),
        truncated_share=sum(length > limit for length in lengths) / len(lengths) if limit and lengths else 0.0,
        duplicates=tuple((example.line, first[example.id]) for example in dataset.examples if example.line != first[example.id]),
        near_duplicates=tuple((unique[second].line, unique[one].line) for one, second in dataset.similar),
        compared=min(len(unique), MOST_ROWS),
        empty=tuple(problem.line for problem in dataset.problems if "empty" in problem.reason["en"]),
        one_sided=_find_one_sided(unique, dataset.kind),
        languages=_count_languages(unique),
        personal_data=_find_personal(unique),
        leakage=find_leakage(train, store),
        labels=_count_labels(unique, dataset.kind),
        train_rows=len(train),
        eval_rows=len(evaluation),
        refusal=dataset.refusal or _refuse_unread(unread, len(unique), base),
        columns=dataset.columns,
        available=dataset.available,
        encoding=dataset.encoding,
    )


def _measure(dataset: Dataset, models: Models, base: str) -> tuple[list[int], list[Problem]]:
    """Tokens of each row's longest reading, and the rows that the model's chat template refuses."""
    encoder = models.turn_encoder(base)
    sides = [example.messages for example in dataset.unique]
    sides += [(*each.prompt, type(each.prompt[0])("assistant", each.rejected)) for each in dataset.unique if each.rejected is not None]
    owners = [*range(len(dataset.unique)), *(place for place, each in enumerate(dataset.unique) if each.rejected is not None)]
    lengths, unread = [0] * len(dataset.unique), {}
    for place, rows in zip(owners, encoder.try_encode(sides), strict=True):
        if isinstance(rows, KitError):
            unread[place] = Problem(dataset.unique[place].line, {language: rows.text(language) for language in ("en", "ja")})
        else:
            lengths[place] = max([lengths[place], *(len(row.ids) for row in rows)])
    return [length for place, length in enumerate(lengths) if place not in unread], list(unread.values())


def _histogram(lengths: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """Up to twelve steps of equal whole width, from 1 to the longest row."""
    if not lengths:
        return ()
    width = max(1, -(-max(lengths) // _BINS))
    counts = Counter((length - 1) // width for length in lengths)
    return tuple((step * width + 1, (step + 1) * width, counts[step]) for step in range(max(counts) + 1))


def _refuse_unread(unread: Sequence[Problem], rows: int, base: str) -> Bilingual | None:
    if not unread or len(unread) < rows:
        return None
    first = unread[0]
    return {
        "en": f"The chat template of “{base}” refuses every row. Line {first.line:,}: {first.reason['en']}",
        "ja": f"「{base}」の対話形式ではどの行も使えません。{first.line:,}行目：{first.reason['ja']}",
    }


def _count_labels(examples: Sequence[Example], kind: Kind) -> dict[str, int]:
    """How often each label occurs: good and bad ones, or short answers of which each stands for several rows."""
    if kind == "kto":
        return {name: sum(example.label is value for example in examples) for name, value in (("true", True), ("false", False))}
    answers = Counter(example.answer.strip() for example in examples) if kind == "sft" else Counter()
    is_closed = 1 <= len(answers) <= min(_MOST_LABELS, len(examples) / 3) and all(len(answer) <= _LABEL_CHARACTERS for answer in answers)
    return dict(answers.most_common()) if is_closed else {}


def _find_one_sided(examples: Sequence[Example], kind: Kind) -> tuple[Bilingual, ...]:
    """What teaches only one thing: the same answer everywhere, only good or only bad ones, or one label for nearly all."""
    if len(examples) < 2:
        return ()
    said: list[Bilingual] = []
    for answer, count in Counter(example.answer.strip() for example in examples).most_common(1) if kind != "kto" else ():
        if count == len(examples):
            en = f"Every answer is the same (“{answer[:40]}”): the model will learn to say that, whatever it is asked."
            said.append({"en": en, "ja": f"すべての回答が同じです（「{answer[:40]}」）。何を聞いてもそう答えるようになります。"})
    labels = _count_labels(examples, kind)
    top = max(labels, key=lambda label: labels[label], default="")
    if len(labels) > 1 and not all(labels.values()):
        ja = f"ラベルが{len(examples):,}件とも「{top}」です。両方が必要です。"
        said.append({"en": f"All {len(examples):,} labels are “{top}”; both kinds are needed.", "ja": ja})
    elif len(labels) > 1 and labels[top] >= _LOPSIDED * len(examples):
        share = 100 * labels[top] / len(examples)
        en = f"{share:.0f} % of the rows have the label “{top[:40]}”: always saying that would look good."
        said.append({"en": en, "ja": f"{share:.0f} %の行がラベル「{top[:40]}」です。いつもそう答えるだけで良く見えてしまいます。"})
    return tuple(said)


def _count_languages(examples: Sequence[Example]) -> dict[str, int]:
    """Rows by their main language (ISO 639), by script; `other` where there are no letters."""
    counts: Counter[str] = Counter()
    for example in examples:
        text = f"{example.question}\n{example.answer}"[:_LANGUAGE_CHARACTERS]
        found = find_languages(text)
        short = "ja" if _CHINESE_OR_KANA.search(text) else "en" if any(sign.isalpha() for sign in text) else "other"
        counts[found[0] if found else short] += 1
    return dict(counts.most_common())


def _find_personal(examples: Sequence[Example]) -> tuple[Finding, ...]:
    return tuple(
        Finding(example.line, found.kind, found.masked)
        for example in examples
        for text in (*(turn.content for turn in example.prompt), example.answer, example.rejected or "")
        for found in find_personal_data(text)
    )



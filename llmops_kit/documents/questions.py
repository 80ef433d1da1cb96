"""Test questions: what is asked, where the answer stands, and what it is; read from and written to tables.

    questions = read_questions("questions.csv")            # columns question, passage, document, answer, page in either language
    questions_to_csv(questions)                            # bytes for Excel in Japan

Ten of them are written in five minutes and say more than any benchmark about one's own documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import InvalidValue

if TYPE_CHECKING:
    import pandas as pd

_LABELS: Mapping[str, tuple[str, ...]] = {
    "question": ("質問", "質問文", "問い", "query", "q"),
    "passage": ("正解の箇所", "該当箇所", "根拠", "箇所", "引用", "context", "evidence", "quote"),
    "document": ("文書", "文書名", "ファイル", "ファイル名", "file", "source"),
    "answer": ("答え", "回答", "正解", "期待する答え", "expected", "expected answer"),
    "page": ("ページ", "頁", "page number"),
}


@dataclass(frozen=True)
class Question:
    """A test question. Where its answer stands is told by a `passage` of the text, by the file name `document` (or a part of it), or both.

    `passage` is compared without white space and whatever its width; `page` narrows `document` where there is no passage.
    `answer` is what is expected, one acceptable wording per line; empty where only the search is measured.
    """

    question: str
    passage: str = ""
    document: str = ""
    answer: str = ""
    page: int | None = None

    @property
    def has_place(self) -> bool:
        """Whether it says where the answer stands."""
        return bool(self.passage.strip() or self.document.strip())


def read_questions(source: Any) -> tuple[Question, ...]:
    """Questions from `Question`s, texts, mappings, a DataFrame, or a file (CSV, XLSX, JSON, JSONL, YAML; a path or bytes).

    Columns are recognised by English and Japanese names (question 質問, passage 該当箇所, document 文書, answer 答え, page ページ);
    CSV may be UTF-8 or cp932. Rows without a question are left out.

    Raises:
        UnreadableFile: the file is no such table.
        InvalidValue: no column holds questions, a page is no number, or there is no question at all.
    """
    if isinstance(source, str | Path | bytes):
        rows: Iterable[Any] = _read_file(source)
    elif hasattr(source, "to_dict") and hasattr(source, "columns"):
        rows = _map_columns([{str(name): cell for name, cell in row.items()} for row in source.to_dict("records")])
    else:
        rows = source
    questions = tuple(question for row in rows if (question := _read_one(row)).question)
    if not questions:
        raise InvalidValue(name="questions", value=0, allowed={"en": "at least one question", "ja": "1問以上"})
    return questions


def questions_to_table(questions: Sequence[Question]) -> pd.DataFrame:
    """The questions as a DataFrame with a column per field, to be edited and read again."""
    import pandas as pd

    names = [field.name for field in fields(Question)]
    return pd.DataFrame([[_shown(getattr(question, name)) for name in names] for question in questions], columns=names, dtype=object)


def questions_to_csv(questions: Sequence[Question]) -> bytes:
    """The questions as CSV in UTF-8 with a byte order mark, formulas neutralised; `read_questions` gives them back."""
    from llmops_kit.playground.export import to_csv

    return to_csv(questions_to_table(questions))


def _shown(value: Any) -> Any:
    return "" if value is None else value


def _read_one(row: Any) -> Question:
    if isinstance(row, Question):
        return row
    if isinstance(row, str):
        return Question(row.strip())
    if not isinstance(row, Mapping):
        raise InvalidValue(name="questions", value=type(row).__name__, allowed="Question, str, {question, passage, document, answer, page}")
    known = {field.name for field in fields(Question)}
    if unknown := set(map(str, row)) - known:
        raise InvalidValue(name="questions", value=", ".join(sorted(unknown)), allowed=", ".join(sorted(known)))
    texts = {name: _text(row.get(name)) for name in known - {"page"}}
    return Question(**texts, page=_page(row.get("page")))


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value).strip()     # a NaN is an empty cell of a DataFrame


def _page(value: Any) -> int | None:
    text = _text(value).removesuffix(".0")
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InvalidValue(name="page", value=text, allowed="1, 2, 3 …")
    return int(text)


def _read_file(source: str | Path | bytes) -> list[Mapping[str, Any]]:
    from llmops_kit.playground.export import restore
    from llmops_kit.playground.rows import read_rows

    if not isinstance(source, bytes) and Path(source).suffix.lower() in (".yaml", ".yml"):
        return _read_yaml(Path(source))
    table = read_rows(source)
    return _map_columns([{name: restore(cell) for name, cell in row.items()} for row in table.rows])


def _read_yaml(path: Path) -> list[Mapping[str, Any]]:
    import yaml

    from llmops_kit.playground.decoding import refused

    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
        raise refused(path.name, f"it is no YAML in UTF-8 ({type(fault).__name__})", f"UTF-8のYAMLではありません（{type(fault).__name__}）") from fault
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise refused(path.name, "it is no list of questions", "質問の一覧になっていません")
    return rows


def _map_columns(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows with the names of our fields, whatever the columns are called."""
    from llmops_kit.playground.rows import suggest_mapping
    from llmops_kit.types import Variable

    columns = list(rows[0]) if rows else []
    variables = [Variable(name, label=dict(enumerate(labels))) for name, labels in _LABELS.items()]  # type: ignore[arg-type]  # only the labels are read
    mapping = suggest_mapping(columns, variables)
    if rows and mapping["question"] is None:
        raise InvalidValue(name="columns", value=", ".join(columns), allowed="question, passage, document, answer, page / 質問、該当箇所、文書、答え、ページ")
    return [{name: row.get(column) for name, column in mapping.items() if column is not None} for row in rows]

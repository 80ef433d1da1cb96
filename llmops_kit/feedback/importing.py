"""Answers made elsewhere, taken in as Runs so that they can be rated: from CSV, TSV, XLSX or JSON lines."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, overload

from llmops_kit.errors import InputError, InvalidValue, UnreadableFile
from llmops_kit.feedback.entries import check_tags
from llmops_kit.playground.decoding import absent, refused
from llmops_kit.playground.rows import RowTable, read_rows
from llmops_kit.store.columns import MAX_SHORT, storable
from llmops_kit.types import Message, Run, hash_messages

if TYPE_CHECKING:
    from llmops_kit.store import Store

MAX_CHARS = 200_000
"""Characters of a prompt or an answer."""
_BATCH = 200        # runs in a transaction: while it is written nobody's rating is
_NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "question", "input", "instruction", "プロンプト", "質問", "入力", "指示", "問い"),
    "answer": ("answer", "output", "response", "completion", "回答", "出力", "応答", "返答", "答え"),
    "model": ("model", "モデル", "モデル名"),
    "item": ("item", "item_id", "id", "項目", "番号"),
    "tags": ("tags", "tag", "タグ"),
}
_ANSWER = re.compile(rf"(?:{'|'.join(_NAMES['answer'])})(?:[_\s:：・/-]+(?P<name>.+))?", re.IGNORECASE)


@dataclass(frozen=True)
class Answers(Sequence[Run]):
    """The runs a file became, in its order, and the rows that were left out (`problems`, one sentence each with its line)."""

    file: str
    runs: tuple[Run, ...]
    problems: tuple[InputError, ...] = ()

    @overload
    def __getitem__(self, place: int) -> Run: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Run]: ...
    def __getitem__(self, place: int | slice) -> Run | Sequence[Run]:
        return self.runs[place]

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)


@dataclass(frozen=True)
class _Columns:
    prompt: str
    answers: Mapping[str, str | None]     # column → the name of what answered, None where it is in the column `model` or not told
    model: str | None
    item: str | None
    tags: str | None


def import_answers(
    store: Store,
    path: str | Path | bytes,
    at: datetime,
    *,
    participant: str,
    file: str | None = None,
    prompt: str | None = None,
    answers: Sequence[str] | None = None,
    encoding: str | None = None,
    sheet: str | None = None,
) -> Answers:
    """Write the answers of a file as Runs with the app `import`; the same file again gives the same Runs.

    Columns: `prompt`; `answer`, or one `answer_<name>` for each of several that answered (also 質問, 回答_…); `model`, `item`, `tags` if
    there. `prompt` and `answers` name other columns. UTF-8 or cp932. `file` is the name of an upload given as bytes.

    Raises: `UnreadableFile`, `UnknownName` for a column that is not there.
    """
    table = read_rows(path, file=file, encoding=encoding, sheet=sheet, lenient=True)
    columns = find_columns(table, prompt, answers)
    problems: list[InputError] = list(table.problems)
    made: dict[str, Run] = {}
    lines: dict[str, int] = {}
    for line, row in zip(table.lines, table.rows, strict=True):
        try:
            for run in _read(row, columns, at, participant, table.file, line):
                if run.id in made:
                    raise refused_row(table.file, line, f"says the same as line {lines[run.id]:,}", f"{lines[run.id]:,}行目と同じ内容です")
                made[run.id], lines[run.id] = run, line
        except InputError as problem:
            problems.append(problem)
    if not made:
        en, ja = (problems[0].text(language) for language in ("en", "ja"))   # a file without rows is refused before
        raise refused(table.file, f"none of its rows can be used ({en})", f"使える行がありません（{ja}）")
    runs = tuple(made.values())
    for start in range(0, len(runs), _BATCH):
        some = runs[start : start + _BATCH]
        store.commit(lambda change, some=some: [change.append(run, publish="run") for run in some])  # type: ignore[misc]
    return Answers(table.file, runs, tuple(problems))


def find_columns(table: RowTable, prompt: str | None, answers: Sequence[str] | None) -> _Columns:
    """Which column holds what: as named, else by the usual names. Raises: `UnknownName`, `UnreadableFile`."""
    for column in [*([prompt] if prompt else []), *(answers or ())]:
        if column not in table.columns:
            raise absent(column, en="column", ja="列", known=table.columns)
    plain = {_plain(column): column for column in reversed(table.columns)}
    found = {kind: next((plain[_plain(name)] for name in names if _plain(name) in plain), None) for kind, names in _NAMES.items()}
    asked = prompt or found["prompt"]
    named: dict[str, str | None] = {}
    if answers is not None:
        named = {column: column if len(answers) > 1 else None for column in answers}
    else:
        for column in table.columns:
            if (match := _ANSWER.fullmatch(unicodedata.normalize("NFKC", column).strip())) and column != asked:
                named[column] = (match["name"] or "").strip() or None
    if asked is None or not named:
        missing = "prompt" if asked is None else "answer"
        en = f"it has no column named {missing} (its columns: {', '.join(table.columns)[:300]})"
        ja = f"「{missing}」という列がありません（列：{'、'.join(table.columns)[:300]}）"
        raise refused(table.file, en, ja)
    rest = {kind: column for kind, column in found.items() if column != asked and column not in named}
    return _Columns(asked, named, rest.get("model"), rest.get("item"), rest.get("tags"))


def refused_row(file: str, line: int, en: str, ja: str) -> UnreadableFile:
    """The sentence on a row that is left out."""
    return UnreadableFile(en=f"“{file}”, line {line:,}: {en}.", ja=f"「{file}」{line:,}行目：{ja}。", file=file, reason=en, line=line)


def _read(row: Mapping[str, str], columns: _Columns, at: datetime, participant: str, file: str, line: int) -> list[Run]:
    """The runs of a row: one for each answer it has."""
    asked = storable(row[columns.prompt])
    said = {column: storable(row[column]) for column in columns.answers if row[column].strip()}
    if not asked.strip():
        raise refused_row(file, line, "the prompt is empty", "プロンプトが空です")
    if not said:
        raise refused_row(file, line, "the answer is empty", "回答が空です")
    if len(asked) > MAX_CHARS or max(map(len, said.values())) > MAX_CHARS:
        raise refused_row(file, line, f"a text has more than {MAX_CHARS:,} characters", f"{MAX_CHARS:,}文字を超える文章があります")
    try:
        tags = check_tags(row[columns.tags] if columns.tags else ())
    except InvalidValue as problem:
        raise refused_row(file, line, problem.text("en"), problem.text("ja")) from problem
    item = storable(row[columns.item]).strip()[:MAX_SHORT] if columns.item else ""
    item = item or hashlib.sha256(asked.encode()).hexdigest()[:16]
    messages = (Message("user", asked),)
    runs = []
    for column, answer in said.items():
        told = storable(row[columns.model]).strip() if columns.model else ""
        name = columns.answers[column]
        model = (name if name and not told else f"{told} {name}" if name else told) or "import"
        identity = json.dumps([participant, item, asked, model, answer], ensure_ascii=False)
        run = Run(
            id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"import {identity}")),
            created_at=at,
            participant=participant,
            app="import",
            model=model[:MAX_SHORT],
            messages=messages,
            prompt_sha256=hash_messages(messages),
            params={"file": file, "line": line, "tags": list(tags)},
            output=answer,
            finish_reason="stop",
            item=item,
            variant=model[:MAX_SHORT],
        )
        runs.append(run)
    return runs


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip().casefold()

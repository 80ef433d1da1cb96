"""The lines of Python behind asking, looking into and measuring documents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmops_kit.access import LOCAL
from llmops_kit.types import Collection
from llmops_kit.ui.code import opening


def ask_code(workspace: Path, question: str, collection: Collection, names: Sequence[str], *, history: Sequence[tuple[str, str]] = (), **options: Any) -> str:
    """Code that asks the documents; `names` are those the person's documents go by. Options that are unset are left out."""
    talked = {"history": [tuple(turn) for turn in history[-3:]]} if history else {}
    call = _call("ask", repr(question), collection, names, {**options, **talked})
    return f"{opening(workspace)}run = {call}\nprint(run.output)\nrun.sources\n"


def explain_code(workspace: Path, question: str, passage: str, collection: Collection, names: Sequence[str]) -> str:
    """Code that follows a passage to the prompt."""
    return f"{opening(workspace)}explained = {_call('explain', f'{question!r}, {passage!r}', collection, names, {})}\nexplained\n"


def findable_code(workspace: Path, word: str, collection: Collection, names: Sequence[str]) -> str:
    """Code that says whether a word is found."""
    return f"{opening(workspace)}found = {_call('findable', repr(word), collection, names, {})}\nfound\n"


def measure_code(workspace: Path, verb: str, questions: str, collection: Collection, names: Sequence[str], **options: Any) -> str:
    """Code that measures (`verb`: evaluate or sweep) on `questions`, a file."""
    return f"{opening(workspace)}report = {_call(verb, repr(questions), collection, names, options)}\nreport\n"


def _call(verb: str, first: str, collection: Collection, names: Sequence[str], options: dict[str, Any]) -> str:
    """The call, in the name of the collection's owner where a notebook would not see it."""
    whose = {} if collection.shared or collection.owner == LOCAL else {"participant": names[0]}
    told = {"collection": collection.name, **whose, **{name: value for name, value in options.items() if value not in (None, "", (), [], {}, False)}}
    return f"kit.documents.{verb}({', '.join([first, *(f'{name}={value!r}' for name, value in told.items())])})"

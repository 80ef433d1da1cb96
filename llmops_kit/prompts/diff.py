"""What changed between two versions of a prompt, character by character."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby
from typing import Any, Literal

from llmops_kit.prompts.front_matter import describe, dump
from llmops_kit.types import Message, Prompt

Operation = Literal["equal", "insert", "delete"]
Piece = tuple[Operation, str]

_UNITS = (re.compile(r"[^\n]*\n|[^\n]+"), re.compile(r"[^。．！？.!?]*[。．！？.!?]+\s*|[^。．！？.!?]+"))
"""Lines, then sentences: what a person changes lies within one, and the search for matching characters stays short."""
_MAX_PRODUCT = 4_000_000
"""Above this (characters × characters) a changed sentence is shown as replaced: matching it takes seconds and reads no better."""
_MARK = {"insert": ("ins", "rgba(60,140,220,.22)"), "delete": ("del", "rgba(230,120,40,.22)")}


@dataclass(frozen=True)
class Change:
    """One changed stretch: where (`user`, `user 2`, `params.temperature`, …), at which character, and the texts."""

    place: str
    position: int
    deleted: str
    inserted: str


@dataclass(frozen=True)
class Part:
    """One message or setting with its unchanged and changed stretches."""

    place: str
    pieces: tuple[Piece, ...]

    @property
    def is_changed(self) -> bool:
        """Whether anything differs here."""
        return any(operation != "equal" for operation, _ in self.pieces)


@dataclass(frozen=True)
class Diff:
    """The difference between two versions; shows itself in a notebook. `position` of a change counts in the old text."""

    name: str
    old: int
    new: int
    parts: tuple[Part, ...]

    @property
    def changes(self) -> tuple[Change, ...]:
        """Only what changed, in reading order."""
        return tuple(change for part in self.parts for change in _changes(part))

    @property
    def title(self) -> str:
        """Name, versions, and how many characters went and came."""
        deleted = sum(len(change.deleted) for change in self.changes)
        inserted = sum(len(change.inserted) for change in self.changes)
        return f"{self.name} v{self.old} → v{self.new} · −{deleted} +{inserted}"

    def _repr_html_(self) -> str:
        blocks = "".join(
            f'<div style="margin:.6em 0 .1em;opacity:.7">{html.escape(part.place)}</div>'
            f'<div style="white-space:pre-wrap;overflow-wrap:anywhere">{"".join(map(_html, part.pieces))}</div>'
            for part in self.parts
        )
        return f'<div class="prompt-diff"><strong>{html.escape(self.title)}</strong>{blocks}</div>'

    def _repr_markdown_(self) -> str:
        wrap = {"equal": "{}", "insert": "{{+{}+}}", "delete": "[-{}-]"}
        shown = "\n\n".join(f"{part.place}:\n" + "".join(wrap[operation].format(text) for operation, text in part.pieces) for part in self.parts)
        fence = "~" * max(3, *(len(run) + 1 for run in re.findall("~+", shown)), 3)
        title = re.sub(r"([\\`*_<>#|])", r"\\\1", self.title)
        return f"**{title}**\n\n{fence}text\n{shown}\n{fence}"


def compare(old: Prompt, new: Prompt) -> Diff:
    """The difference from `old` to `new`: every message, then those settings that changed."""
    settings = (part for part in _compare_settings(_settings(old), _settings(new)) if part.is_changed)
    return Diff(new.name, old.version, new.version, (*_compare_messages(old.messages, new.messages), *settings))


def compare_text(old: str, new: str) -> tuple[Piece, ...]:
    """The stretches that lead from `old` to `new`, a deletion before its insertion: lines are matched first, then sentences, then characters."""
    return _merge(_compare_by(0, old, new))


def _compare_by(level: int, old: str, new: str) -> list[Piece]:
    """Match by the units of `level`, and what differs by those of the next."""
    # The common ends first: difflib looks for the longest match anywhere and may tear them apart.
    start = _common(old, new)
    end = _common(old[start:][::-1], new[start:][::-1])
    before, after = old[start : len(old) - end], new[start : len(new) - end]
    middle: list[Piece] = [("delete", before), ("insert", after)]
    if before and after and level < len(_UNITS):
        middle = [piece for pair in _match(_UNITS[level].findall(before), _UNITS[level].findall(after)) for piece in _refine(level, *pair)]
    elif before and after and len(before) * len(after) <= _MAX_PRODUCT:
        middle = [piece for operation, left, right in _match(before, after) for piece in _pair(operation, left, right)]
    return [("equal", old[:start]), *middle, ("equal", old[len(old) - end :])]


def _refine(level: int, operation: str, old: Sequence[str], new: Sequence[str]) -> list[Piece]:
    if operation == "equal":
        return [("equal", "".join(old))]
    before, after = "".join(old), "".join(new)
    if len(old) == len(new) > 1 and len(before) * len(after) > _MAX_PRODUCT:
        # Every line of a long text edited: too much for one search, and line by line is how it was edited.
        return [piece for left, right in zip(old, new, strict=True) for piece in _compare_by(level + 1, left, right)]
    return _compare_by(level + 1, before, after)


def _pair(operation: str, old: Sequence[str], new: Sequence[str]) -> list[Piece]:
    return [("equal", "".join(old))] if operation == "equal" else [("delete", "".join(old)), ("insert", "".join(new))]


def _match(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[str, Sequence[str], Sequence[str]]]:
    for operation, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        yield operation, old[a:b], new[c:d]


def _common(old: str, new: str) -> int:
    length = 0
    for left, right in zip(old, new, strict=False):
        if left != right:
            break
        length += 1
    return length


def _merge(pieces: list[Piece]) -> tuple[Piece, ...]:
    """Join neighbours of one kind; between two equal stretches there is at most one deletion, then one insertion."""
    merged: list[Piece] = []
    for is_equal, group in groupby((piece for piece in pieces if piece[1]), key=lambda piece: piece[0] == "equal"):
        stretch = list(group)
        operations: tuple[Operation, ...] = ("equal",) if is_equal else ("delete", "insert")
        joined = [(operation, "".join(text for kind, text in stretch if kind == operation)) for operation in operations]
        merged += [piece for piece in joined if piece[1]]
    return tuple(merged)


def _compare_messages(old: Sequence[Message], new: Sequence[Message]) -> Iterator[Part]:
    """Messages are matched by role and order; one without a partner is inserted or deleted as a whole."""
    old_places, new_places = _places(old), _places(new)
    matcher = SequenceMatcher(None, [turn.role for turn in old], [turn.role for turn in new], autojunk=False)
    for operation, a, b, c, d in matcher.get_opcodes():
        if operation == "equal":
            for i, j in zip(range(a, b), range(c, d), strict=True):
                yield Part(new_places[j], compare_text(old[i].content, new[j].content))
            continue
        yield from (Part(old_places[i], (("delete", old[i].content),)) for i in range(a, b))
        yield from (Part(new_places[j], (("insert", new[j].content),)) for j in range(c, d))


def _places(messages: Sequence[Message]) -> list[str]:
    totals = Counter(turn.role for turn in messages)
    seen: Counter[str] = Counter()
    places = []
    for turn in messages:
        seen[turn.role] += 1
        places.append(turn.role if totals[turn.role] == 1 else f"{turn.role} {seen[turn.role]}")
    return places


def _settings(prompt: Prompt) -> dict[str, str]:
    """Everything but the messages as place → text."""
    texts = {f"description.{language}": text for language, text in prompt.description.items()}
    texts["model"] = prompt.model or ""
    texts |= {f"params.{name}": _scalar(value) for name, value in prompt.params.items()}
    texts |= {f"variables.{variable.name}": dump(describe(variable)) for variable in prompt.variables}
    texts["schema"] = "" if prompt.schema is None else dump(dict(prompt.schema))
    return texts


def _compare_settings(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Part]:
    for place in dict.fromkeys((*new, *old)):
        before, after = old.get(place, ""), new.get(place, "")
        # A name or a number is read as a whole: 0.2 → 0.7, not one digit of it.
        whole = place == "model" or place.startswith("params.")
        yield Part(place, _merge([("equal", before)] if before == after else [("delete", before), ("insert", after)]) if whole else compare_text(before, after))


def _scalar(value: Any) -> str:
    return value if isinstance(value, str) else dump(value).removesuffix("...\n").strip()


def _changes(part: Part) -> Iterator[Change]:
    position = 0
    for is_equal, group in groupby(part.pieces, key=lambda piece: piece[0] == "equal"):
        texts = {"delete": "", "insert": "", **dict(group)}
        if not is_equal:
            yield Change(part.place, position, texts["delete"], texts["insert"])
        position += len(texts["delete"]) + len(texts.get("equal", ""))


def _html(piece: Piece) -> str:
    operation, text = piece
    if operation == "equal":
        return html.escape(text)
    tag, colour = _MARK[operation]
    shown = html.escape(text).replace("\n", "⏎\n") or "∅"
    return f'<{tag} style="background:{colour}">{shown}</{tag}>'

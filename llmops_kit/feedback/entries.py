"""What a person entered with a rating, checked: who, under which id, the words and the tags. And the promise that it is saved or said not to be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llmops_kit.errors import InvalidValue, NotSaved, WorkspaceError
from llmops_kit.feedback.rubrics import MAX_TEXT
from llmops_kit.store.columns import MAX_SHORT, storable
from llmops_kit.types import new_id

MAX_CORRECTION = 100_000
"""Characters of a corrected answer."""
_MAX_ID = 36        # a UUID as text
_MAX_TAGS = 20
_MAX_TAG = 100      # characters


@contextmanager
def saved() -> Iterator[None]:
    """Turn a store that refuses into `NotSaved`: the rater has to see that nothing was kept."""
    try:
        yield
    except WorkspaceError as fault:
        raise NotSaved(reason=fault.facts.get("reason", str(fault))) from fault


def check_rater(rater: str) -> str:
    """The rater's id as it is stored. Raises: `InvalidValue`."""
    name = storable(rater).strip() if isinstance(rater, str) else ""
    if not name or len(name) > MAX_SHORT:
        raise InvalidValue(name="rater", value=str(rater)[:80], allowed={"en": f"a name of 1–{MAX_SHORT} characters", "ja": f"1〜{MAX_SHORT}文字の名前"})
    return name


def check_id(id: str | None) -> str:
    """The id the caller made, or a fresh one. Raises: `InvalidValue`."""
    if id is None:
        return new_id()
    if not isinstance(id, str) or not id.strip() or len(id) > _MAX_ID or storable(id) != id:
        allowed = {"en": f"a text of 1–{_MAX_ID} characters, such as a UUID", "ja": f"UUIDなど1〜{_MAX_ID}文字の文字列"}
        raise InvalidValue(name="id", value=str(id)[:80], allowed=allowed)
    return id


def check_words(comment: str, correction: str | None) -> tuple[str, str | None]:
    """Comment and corrected answer as they are stored; blank ones are none. Raises: `InvalidValue` for what is too long: nothing is cut."""
    comment = storable(_text("comment", comment, MAX_TEXT))
    correction = None if correction is None or not str(correction).strip() else storable(_text("correction", correction, MAX_CORRECTION))
    return (comment if comment.strip() else ""), correction


def check_tags(tags: str | Sequence[str]) -> tuple[str, ...]:
    """Tags, each once, in the order given; a single text is split at commas, semicolons and line breaks. Raises: `InvalidValue`."""
    listed = re.split(r"[,，、;；\n]", tags) if isinstance(tags, str) else list(tags)
    clean = tuple(dict.fromkeys(storable(str(tag)).strip() for tag in listed if str(tag).strip()))
    if len(clean) > _MAX_TAGS or any(len(tag) > _MAX_TAG for tag in clean):
        allowed = {"en": f"at most {_MAX_TAGS} of at most {_MAX_TAG} characters", "ja": f"{_MAX_TAG}文字以内を{_MAX_TAGS}個まで"}
        raise InvalidValue(name="tags", value=f"{len(clean)}: {', '.join(clean)[:80]}", allowed=allowed)
    return clean


def check_duration(duration_s: float | None) -> float | None:
    """Seconds, or None for what is no duration: a broken clock in a browser must not cost a rating."""
    return float(duration_s) if isinstance(duration_s, (int, float)) and 0 <= duration_s < 1e7 else None


def _text(name: str, value: Any, most: int) -> str:
    text = value if isinstance(value, str) else "" if value is None else str(value)
    if len(text) > most:
        ja = "コメント" if name == "comment" else "修正した回答"
        raise InvalidValue(
            en=f"The {name} has {len(text):,} characters; at most {most:,} are kept. Shorten it; nothing was saved or cut.",
            ja=f"{ja}が{len(text):,}文字あります（上限{most:,}文字）。短くしてください。まだ何も保存されていません。",
            name=name,
            value=len(text),
            allowed=most,
        )
    return text

"""Rubrics: what a rater is asked about an answer, as criteria with a type, and the check of what was given for them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from llmops_kit.errors import InvalidValue, UnknownName
from llmops_kit.store.columns import storable

CriterionType = Literal["boolean", "category", "ordinal", "number", "text", "pairwise", "ranking"]
CHOICES = ("A", "B", "tie", "both_bad")
MAX_TEXT = 20_000
"""Characters of a comment or of a text criterion. Longer text is refused, never cut."""
MAX_ANSWERS = 6
"""Answers one person can put in order without guessing; the middle places of longer lists are noise."""
_YES = ("true", "yes", "y", "1", "on", "はい", "有", "あり", "○", "👍")
_NO = ("false", "no", "n", "0", "off", "いいえ", "無", "なし", "×", "👎")


@dataclass(frozen=True)
class Criterion:
    """One question about an answer.

    `boolean` takes true or false, `category` one of `options`, `ordinal` one of `options` in their order or a whole number from
    `minimum` to `maximum`, `number` any number between them where given, `text` words, `pairwise` one of `CHOICES`, `ranking` the
    answers in order, best first. The one named `thumb` is kept as 1 or -1. `label` and `help` have one text per language.
    """

    name: str
    type: CriterionType = "ordinal"
    label: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    required: bool = True
    help: Mapping[str, str] = field(default_factory=dict)

    def allowed(self) -> dict[str, str]:
        """What may be given, in both languages."""
        low, high = (None if bound is None else f"{bound:g}" for bound in (self.minimum, self.maximum))
        match self.type:
            case "boolean":
                return {"en": "true, false", "ja": "true、false（はい、いいえ）"}
            case "text":
                return {"en": f"text of at most {MAX_TEXT:,} characters", "ja": f"{MAX_TEXT:,}文字までの文章"}
            case "pairwise":
                return dict.fromkeys(("en", "ja"), ", ".join(CHOICES))
            case "ranking":
                return {"en": "every answer once, best first", "ja": "すべての回答を1回ずつ、良い順に"}
            case "number":
                between = f"{low or '−∞'}…{high or '∞'}"
                return {"en": f"a number, {between}", "ja": f"数値（{between}）"}
            case _ if self.options:
                return dict.fromkeys(("en", "ja"), ", ".join(self.options))
            case _:
                return {"en": f"a whole number, {low}…{high}", "ja": f"{low}から{high}までの整数"}

    def read(self, value: Any) -> Any:
        """`value` as it is stored. Raises: `InvalidValue` that names the criterion, the value and what is allowed."""
        read = _read_thumb(value) if self.name == "thumb" else _READERS[self.type](self, value)
        if read is None:
            raise InvalidValue(name=self.name, value=str(value)[:80], allowed=self.allowed())
        return read

    def text(self, language: str) -> str:
        """The label in `language`, else in the other one, else the name."""
        return self.label.get(language) or next((text for text in self.label.values() if text), self.name)


@dataclass(frozen=True)
class Rubric:
    """The criteria of a rating, under a name and a version (from 1)."""

    name: str
    criteria: tuple[Criterion, ...]
    version: int = 1

    def check(self, scores: Any, *, partly: bool = False) -> dict[str, Any]:
        """`scores` by criterion as they are stored. A bare value serves where there is one criterion; `partly` lets required ones be missing.

        Raises: `UnknownName` for a criterion that is not there; `InvalidValue` for a value, or a required one that is missing.
        """
        if not isinstance(scores, Mapping):
            if len(self.criteria) != 1:
                allowed = {"en": f"a value for each of {self.names}", "ja": f"{self.names}それぞれの値"}
                raise InvalidValue(name=self.name, value=str(scores)[:80], allowed=allowed)
            scores = {self.criteria[0].name: scores}
        known = {criterion.name: criterion for criterion in self.criteria}
        for name in scores:
            if name not in known:
                raise UnknownName(kind={"en": "criterion", "ja": "評価項目"}, name=str(name)[:80], known=self.names)
        given = {name: value for name, value in scores.items() if value is not None and value != ""}
        for name, criterion in known.items():
            if criterion.required and name not in given and not partly:
                raise InvalidValue(
                    en=f"“{criterion.text('en')}” is not filled in. Allowed: {criterion.allowed()['en']}.",
                    ja=f"「{criterion.text('ja')}」が未入力です。使える値：{criterion.allowed()['ja']}。",
                    name=name,
                )
        return {name: known[name].read(value) for name, value in given.items()}

    def plain(self) -> dict[str, Any]:
        """The rubric as plain data, which `read_rubric` reads again."""
        return {"name": self.name, "version": self.version, "criteria": [{**asdict(each), "options": list(each.options)} for each in self.criteria]}

    @property
    def names(self) -> str:
        """The names of the criteria, for sentences."""
        return ", ".join(criterion.name for criterion in self.criteria)


def _read_boolean(_: Criterion, value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    text = plain_word(value)
    return True if text in _YES else False if text in _NO else None


def _read_thumb(value: Any) -> int | None:
    """1 or -1; zero is neither, so 0 is refused although it reads as false."""
    if not isinstance(value, bool) and (number := read_number(value)) is not None:
        return int(number) if number in (1, -1) else None
    up = True if plain_word(value) == "up" else False if plain_word(value) == "down" else _read_boolean(THUMB, value)
    return None if up is None else 1 if up else -1


def _read_choice(criterion: Criterion, value: Any) -> str | None:
    text = plain_word(value)
    return next((option for option in criterion.options or CHOICES if plain_word(option) == text), None)


def _read_ordinal(criterion: Criterion, value: Any) -> Any:
    if criterion.options:
        return _read_choice(criterion, value)
    number = read_number(value)
    return int(number) if number is not None and number.is_integer() and _within(criterion, number) else None


def _read_number(criterion: Criterion, value: Any) -> float | None:
    number = read_number(value)
    return number if number is not None and _within(criterion, number) else None


def _read_text(_: Criterion, value: Any) -> str | None:
    return storable(value) if isinstance(value, str) and len(value) <= MAX_TEXT else None


def _read_order(_: Criterion, value: Any) -> list[str] | None:
    if not isinstance(value, (list, tuple)) or not 2 <= len(value) <= MAX_ANSWERS or len({*map(str, value)}) != len(value):
        return None
    return [str(answer) for answer in value]


_READERS: Mapping[str, Any] = {
    "boolean": _read_boolean,
    "category": _read_choice,
    "ordinal": _read_ordinal,
    "number": _read_number,
    "text": _read_text,
    "pairwise": _read_choice,
    "ranking": _read_order,
}


def read_number(value: Any) -> float | None:
    """A finite number, also typed as text and in full width (`４`, `３．５`); None where it is none. True and false are none."""
    if isinstance(value, bool):
        return None
    text = unicodedata.normalize("NFKC", value).strip() if isinstance(value, str) else value
    try:
        number = float(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _within(criterion: Criterion, number: float) -> bool:
    return (criterion.minimum is None or number >= criterion.minimum) and (criterion.maximum is None or number <= criterion.maximum)


def plain_word(value: Any) -> str:
    """A word as it is compared: full and half width, capitals and spaces around it make no difference."""
    return unicodedata.normalize("NFKC", str(value)).strip().casefold()


THUMB = Criterion("thumb", "boolean", {"en": "👍 / 👎", "ja": "👍 / 👎"})
SCORE = Criterion("score", "ordinal", {"en": "Score", "ja": "評価"}, minimum=1, maximum=5)
PRESETS: Mapping[str, Rubric] = {
    "thumb": Rubric("thumb", (THUMB,)),
    "score": Rubric("score", (SCORE,)),
    "quality": Rubric(
        "quality",
        (
            Criterion("accuracy", "ordinal", {"en": "Accuracy", "ja": "正確さ"}, minimum=1, maximum=5),
            Criterion("fluency", "ordinal", {"en": "Fluency", "ja": "自然さ"}, minimum=1, maximum=5),
            Criterion("usefulness", "ordinal", {"en": "Usefulness", "ja": "役立ち度"}, minimum=1, maximum=5),
            Criterion("harmful", "boolean", {"en": "Harmful?", "ja": "有害な内容がある"}),
        ),
    ),
    "pairwise": Rubric("pairwise", (Criterion("choice", "pairwise", {"en": "Which is better?", "ja": "どちらが良いですか"}),)),
    "ranking": Rubric("ranking", (Criterion("ranking", "ranking", {"en": "Best first", "ja": "良い順に並べる"}),)),
}
"""Rubrics that need no writing."""

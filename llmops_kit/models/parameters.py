"""What a caller may ask of a chat model: the sampling parameters, their ranges, and which of several sources counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

from llmops_kit.errors import InvalidValue


@dataclass(frozen=True)
class ParameterRule:
    """The range of one parameter, in words for an error and as bounds: inclusive unless `above_minimum`; `whole` for counts."""

    en: str
    ja: str
    minimum: float
    maximum: float = math.inf
    whole: bool = False
    above_minimum: bool = False


RULES: Mapping[str, ParameterRule] = {
    "temperature": ParameterRule("numbers from 0 to 2", "0以上2以下の数", 0, 2),
    "top_p": ParameterRule("numbers above 0, at most 1", "0より大きく1以下の数", 0, 1, above_minimum=True),
    "top_k": ParameterRule("whole numbers, 0 (off) or more", "0（無効）以上の整数", 0, whole=True),
    "repetition_penalty": ParameterRule("numbers above 0, at most 10 (1 is off)", "0より大きく10以下の数（1で無効）", 0, 10, above_minimum=True),
    "max_tokens": ParameterRule("whole numbers, 1 or more", "1以上の整数", 1, 2**31, whole=True),
    "seed": ParameterRule("whole numbers from 0 to 2**53", "0以上2**53以下の整数", 0, 2**53, whole=True),  # JSON carries no larger one without loss
}
NEUTRAL: Mapping[str, float] = {"top_k": 0, "repetition_penalty": 1.0}


def read_parameters(values: Mapping[str, object]) -> dict[str, float | int]:
    """The parameters among `values` that were given (None means not given), as plain numbers in range.

    Raises:
        InvalidValue: a name that is no parameter, or a value outside its range.
    """
    return {name: _read_number(name, value) for name, value in values.items() if value is not None or name not in RULES}


def read_stops(*sources: Sequence[str] | str | None) -> tuple[str, ...]:
    """The stop texts of all `sources`, each once, in order.

    Raises:
        InvalidValue: a stop text is empty or is no text.
    """
    stops: dict[str, None] = {}
    for source in sources:
        for stop in (source,) if isinstance(source, str) else source or ():
            if not isinstance(stop, str) or not stop:
                raise InvalidValue(
                    en=f"“{stop!r}” does not work for stop. Allowed: texts of one or more characters.",
                    ja=f"stopに「{stop!r}」は使えません。使える値：1文字以上の文字列。",
                    name="stop",
                    value=stop,
                )
            stops[stop] = None
    return tuple(stops)


def _read_number(name: str, value: object) -> float | int:
    rule = RULES.get(name)
    if rule is None:
        known = ", ".join([*RULES, "stop"])
        raise InvalidValue(
            en=f"There is no parameter named “{name}”. Known: {known}.",
            ja=f"「{name}」というパラメーターはありません。使えるもの：{known}。",
            name=name,
            value=value,
        )
    refusal = InvalidValue(name=name, value=value, allowed={"en": rule.en, "ja": rule.ja})
    if isinstance(value, bool) or not isinstance(value, Real):
        raise refusal
    number = float(value)
    too_low = number <= rule.minimum if rule.above_minimum else number < rule.minimum
    if not math.isfinite(number) or too_low or number > rule.maximum or (rule.whole and number != int(number)):
        raise refusal
    if not rule.whole:
        return number
    return int(value) if isinstance(value, Integral) else int(number)

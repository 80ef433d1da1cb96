"""Structured output: find the JSON in an answer and check it against the prompt's JSON schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmops_kit.errors import InvalidValue

_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})")
_MAX_STARTS = 50  # brackets tried as the beginning of the JSON: an answer of a million brackets must not take minutes
_RULES = {
    "type": ("must be of type {rule}", "{rule}型でなければなりません"),
    "enum": ("must be one of {rule}", "{rule}のいずれかでなければなりません"),
    "const": ("must be {rule}", "{rule}でなければなりません"),
    "required": ("lacks a required name ({rule})", "必須の項目が足りません（必須：{rule}）"),
    "additionalProperties": ("has names that are not allowed", "許可されていない項目があります"),
    "minimum": ("must be at least {rule}", "{rule}以上でなければなりません"),
    "maximum": ("must be at most {rule}", "{rule}以下でなければなりません"),
    "minLength": ("must have at least {rule} characters", "{rule}文字以上でなければなりません"),
    "maxLength": ("must have at most {rule} characters", "{rule}文字以下でなければなりません"),
    "minItems": ("must have at least {rule} items", "{rule}件以上でなければなりません"),
    "maxItems": ("must have at most {rule} items", "{rule}件以下でなければなりません"),
    "pattern": ("must match {rule}", "{rule}に一致しなければなりません"),
}


@dataclass(frozen=True)
class SchemaCheck:
    """Whether an answer keeps to its schema: `value` is the JSON found in it (None where there is none).

    The messages name the place (`$.items[0].name`) and the value there; they are empty where `ok`.
    """

    ok: bool
    message_en: str = ""
    message_ja: str = ""
    value: Any = None

    def message(self, language: str) -> str:
        """The message in `language` (`ja`, else English)."""
        return self.message_ja if language.startswith("ja") else self.message_en


def check_schema(output: str, schema: Mapping[str, Any]) -> SchemaCheck:
    """Check the JSON in `output`: the whole answer, else a code fence, else what begins at the first bracket.

    Raises: `InvalidValue` where `schema` itself is no JSON schema, or refers to another document.
    """
    import jsonschema
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    kind = jsonschema.validators.validator_for(dict(schema), default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(dict(schema))
        found = list(_values(output))
        # An empty registry: a reference to a web address is refused, not fetched.
        validator = kind(dict(schema), registry=Registry())
        best = None if not found else jsonschema.exceptions.best_match(validator.iter_errors(found[0]))
    except (jsonschema.SchemaError, Unresolvable) as fault:
        raise InvalidValue(name="schema", value=str(fault).splitlines()[0], allowed="JSON Schema (draft 2020-12)") from fault
    if not found:
        return _no_json(output)
    return SchemaCheck(ok=True, value=found[0]) if best is None else _failure(best, found[0])


def _values(output: str) -> Iterator[Any]:
    """The JSON values found in `output`, the most explicit first; lazily, as a rule only the first is wanted."""
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    texts = [output.strip(), *_fenced(output)]
    starts = [output[place.start() :] for place, _ in zip(re.finditer(r"[{\[]", output), range(_MAX_STARTS), strict=False)]
    for text, whole in [*((text, True) for text in texts), *((text, False) for text in starts)]:
        try:
            value, end = decoder.raw_decode(text)
        except (ValueError, RecursionError):
            continue
        if not whole or not text[end:].strip():
            yield value
            return


def _fenced(output: str) -> Iterator[str]:
    """The insides of the code fences. Line by line: one pattern over the text takes minutes on a page of back-ticks."""
    mark, inside = "", list[str]()
    for line in output.splitlines():
        fence = _FENCE.match(line)
        if not mark and fence:
            mark, inside = fence[1], []
        elif fence and fence[1].startswith(mark):
            yield "\n".join(inside).strip()
            mark = ""
        elif mark:
            inside.append(line)


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity are JavaScript, not JSON


def _no_json(output: str) -> SchemaCheck:
    start = re.search(r"[{\[]", output)
    if start is None:
        return SchemaCheck(False, "The answer holds no JSON.", "回答にJSONがありません。")
    try:
        json.loads(output[start.start() :])
    except json.JSONDecodeError as fault:
        place = start.start() + fault.pos + 1
        return SchemaCheck(
            False,
            f"The JSON in the answer breaks off or is wrong at character {place:,} ({fault.msg}).",
            f"回答のJSONが{place:,}文字目で途切れているか、正しくありません（{fault.msg}）。",
        )
    except (ValueError, RecursionError):
        pass
    return SchemaCheck(False, "The answer holds no proper JSON.", "回答に正しいJSONがありません。")


def _failure(error: Any, value: Any) -> SchemaCheck:
    rule_en, rule_ja = _RULES.get(error.validator, ("breaks the rule “" + str(error.validator) + "”", f"規則「{error.validator}」に反しています"))
    facts = {"rule": _short(error.validator_value)}
    place, shown = error.json_path, _short(error.instance)
    missing = ""
    if error.validator == "required":
        missing = ", ".join(name for name in error.validator_value if name not in error.instance)
    elif error.validator == "additionalProperties":
        missing = ", ".join(name for name in error.instance if name not in error.schema.get("properties", {}))
    named = f": {missing}" if missing else ""
    return SchemaCheck(
        ok=False,
        message_en=f"{place} is {shown} and {rule_en.format_map(facts)}{named}.",
        message_ja=f"{place}の値{shown}は{rule_ja.format_map(facts)}{named.replace(': ', '：')}。",
        value=value,
    )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = f"“{text}”" if isinstance(value, str) else text
    return text if len(text) <= 80 else text[:79] + "…"

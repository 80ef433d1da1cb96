"""Rubrics as people write them: the name of a preset, YAML, or Python; read and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from llmops_kit.errors import InvalidValue, UnknownName
from llmops_kit.feedback.rubrics import PRESETS, Criterion, CriterionType, Rubric, plain_word, read_number
from llmops_kit.store.columns import storable

_MAX_CRITERIA = 20
_MAX_OPTIONS = 50
_MAX_NAME = 100     # characters
_NAME = re.compile(r"[^\W\d]\w{0,59}")


def read_rubric(source: Rubric | str | Path | Mapping[str, Any] | Sequence[Any]) -> Rubric:
    """A rubric from the name of a preset, YAML text, a YAML file, a mapping (`name`, `version`, `criteria`) or a list of criteria.

    Raises: `UnknownName` for a preset that is not there; `InvalidValue` for a criterion that does not serve.
    """
    if isinstance(source, Rubric):
        return source
    if isinstance(source, str) and source.strip() in PRESETS:
        return PRESETS[source.strip()]
    if isinstance(source, (str, Path)):
        source = _load(source)
    if isinstance(source, Mapping):
        name, version, listed = str(source.get("name") or "rubric"), source.get("version", 1), source.get("criteria")
    else:
        name, version, listed = "rubric", 1, source
    if not isinstance(listed, (list, tuple)) or not 1 <= len(listed) <= _MAX_CRITERIA:
        raise _wrong("criteria", listed, f"1–{_MAX_CRITERIA}")
    criteria = tuple(_read_criterion(entry) for entry in listed)
    names = [criterion.name for criterion in criteria]
    if len(set(names)) != len(names):
        raise _wrong("criteria", ", ".join(names), {"en": "every name once", "ja": "同じ名前は1回だけ"})
    number = read_number(version)
    if number is None or number < 1 or not number.is_integer():
        raise _wrong("version", version, "1, 2, 3, …")
    if len(name) > _MAX_NAME:
        raise _wrong("name", name, f"≤ {_MAX_NAME}")
    return Rubric(storable(name), criteria, int(number))


def _load(source: str | Path) -> Any:
    import yaml

    text = source.read_text(encoding="utf-8-sig") if isinstance(source, Path) else source
    if isinstance(source, str) and "\n" not in text and ":" not in text:
        raise UnknownName(kind={"en": "rubric", "ja": "評価基準"}, name=text[:80], known=", ".join(PRESETS))
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as fault:
        raise _wrong("YAML", str(fault).replace("\n", " "), {"en": "proper YAML", "ja": "正しいYAML"}) from fault


def _read_criterion(entry: Any) -> Criterion:
    if isinstance(entry, Criterion):
        made = entry
    elif isinstance(entry, Mapping):
        fields = tuple(Criterion.__dataclass_fields__)
        if extra := [str(key) for key in entry if key not in fields]:
            raise _wrong(f"criterion {entry.get('name', '')}", ", ".join(extra), ", ".join(fields))
        kind = str(entry.get("type", "ordinal"))
        if kind not in get_args(CriterionType):
            raise _wrong("type", kind, ", ".join(get_args(CriterionType)))
        made = Criterion(
            name=str(entry.get("name", "")),
            type=cast(CriterionType, kind),
            label=_texts(entry.get("label")),
            options=tuple(str(option) for option in entry.get("options") or ()),
            minimum=_bound(entry, "minimum"),
            maximum=_bound(entry, "maximum"),
            required=bool(entry.get("required", True)),
            help=_texts(entry.get("help")),
        )
    else:
        raise _wrong("criterion", entry, "{name, type, label, options, minimum, maximum, required, help}")
    if not _NAME.fullmatch(made.name):
        raise _wrong("name", made.name, {"en": "a letter, then letters, digits or _ (at most 60)", "ja": "文字で始まる60文字までの名前（文字・数字・_）"})
    if len(made.options) > _MAX_OPTIONS or len({*map(plain_word, made.options)}) != len(made.options) or "" in map(plain_word, made.options):
        raise _wrong("options", ", ".join(made.options), {"en": f"at most {_MAX_OPTIONS} different words", "ja": f"異なる{_MAX_OPTIONS}個までの選択肢"})
    ranged = made.minimum is not None and made.maximum is not None
    if (made.type == "category" and len(made.options) < 2) or (made.type == "ordinal" and len(made.options) < 2 and not ranged):
        raise _wrong(made.name, made.type, {"en": "two options or more, or minimum and maximum", "ja": "2つ以上のoptions、またはminimumとmaximum"})
    if made.minimum is not None and made.maximum is not None and made.minimum >= made.maximum:
        raise _wrong(made.name, f"{made.minimum:g}…{made.maximum:g}", "minimum < maximum")
    return made


def _bound(entry: Mapping[str, Any], name: str) -> float | None:
    value = entry.get(name)
    if value is None:
        return None
    number = read_number(value)
    if number is None:
        raise _wrong(name, value, {"en": "a number", "ja": "数値"})
    return number


def _texts(value: Any) -> dict[str, str]:
    if isinstance(value, Mapping):
        return {str(language): storable(str(text)) for language, text in value.items()}
    return {"en": storable(str(value)), "ja": storable(str(value))} if value else {}


def _wrong(name: str, value: Any, allowed: str | dict[str, str]) -> InvalidValue:
    return InvalidValue(name=f"rubric: {name}", value=str(value)[:120], allowed=allowed)

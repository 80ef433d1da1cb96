"""The head of a prompt file: YAML between two `---` lines, read without surprises and written to be read.

Scalars follow YAML 1.2 and JSON: `yes`, `9:30`, `012` and `2024-01-01` are text. Aliases, tags and unknown keys are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, get_args

import yaml

from llmops_kit.errors import UnreadableFile
from llmops_kit.prompts.template import is_name, normalize_name
from llmops_kit.types import Prompt, Variable, VariableKind

_KEYS = ("name", "description", "variables", "model", "params", "schema")
_VARIABLE_KEYS = ("name", "kind", "required", "options", "default", "minimum", "maximum", "label", "example")
_KINDS = get_args(VariableKind)
_FLOAT = r"[-+]?(?:\d+\.\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.inf)|\.nan"


class _Loader(yaml.SafeLoader):
    """Safe YAML with the scalars of JSON and without aliases (a small file must not unfold into a large object)."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse aliases, else compose as usual."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Safe YAML that repeats instead of aliasing and writes lines as lines."""

    def ignore_aliases(self, data: Any) -> bool:
        """Never an alias."""
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    lines = text.split("\n")
    visible = all(line.replace("\u3000", "").isprintable() for line in lines)
    block = visible and len(lines) > 1 and not text[0].isspace() and all(line == line.rstrip() for line in lines)
    # PyYAML leaves some line separators as they are outside double quotes, where reading turns them into spaces.
    style = "|" if block else None if visible and len(lines) == 1 else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
    _kind.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
    _kind.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^(?:{_FLOAT})$"), list("-+.0123456789"))


def dump(data: Any) -> str:
    """Plain data as readable YAML, keys in their order, Japanese as it is."""
    return yaml.dump(data, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=1_000_000)


def write_fields(prompt: Prompt) -> str:
    """Everything of `prompt` but its messages, as YAML."""
    fields: dict[str, Any] = {"name": prompt.name, "description": dict(prompt.description)}
    fields |= {"variables": [describe(variable) for variable in prompt.variables]}
    fields |= {"model": prompt.model, "params": _plain(prompt.params), "schema": None if prompt.schema is None else _plain(prompt.schema)}
    return dump({key: value for key, value in fields.items() if key == "name" or (value is not None and (value or key == "schema"))})


def describe(variable: Variable) -> dict[str, Any]:
    """One variable as plain data, without what is at its default."""
    fields = {key: getattr(variable, key) for key in _VARIABLE_KEYS}
    fields |= {"options": list(variable.options), "label": dict(variable.label), "example": dict(variable.example)}
    return {key: value for key, value in fields.items() if key in ("name", "kind") or (value is not None and value not in ([], {}) and value is not True)}


def read_fields(text: str, file: str) -> dict[str, Any]:
    """The fields of a Prompt from YAML `text`; `file` is named in errors. Raises `UnreadableFile`."""
    try:
        data = yaml.load(text, Loader=_Loader)  # noqa: S506  a SafeLoader with fewer scalars
    except (yaml.YAMLError, ValueError, RecursionError) as fault:
        where = getattr(fault, "problem_mark", None)
        reason = str(getattr(fault, "problem", None) or fault).split("\n")[0][:200]
        raise unreadable(file, *_at_line(reason, where.line + 2 if where else None)) from fault
    return _Reader(file).fields({} if data is None else data)


def unreadable(file: str, en: str, ja: str) -> UnreadableFile:
    """The error for `file` with the reason in both languages."""
    return UnreadableFile(
        file=file,
        reason=en,
        en=f"“{file}” could not be read: {en}. Correct the file and open it again.",
        ja=f"「{file}」を読めませんでした：{ja}。ファイルを直して、もう一度開いてください。",
    )


def _at_line(reason: str, line: int | None) -> tuple[str, str]:
    place = ("", "") if line is None else (f" in line {line}", f"{line}行目の")
    return f"its head is not valid YAML{place[0]} ({reason})", f"先頭の{place[1]}YAMLに誤りがあります（{reason}）"


def _plain(data: Any) -> Any:
    return json.loads(json.dumps(data, ensure_ascii=False, default=lambda value: dict(value) if isinstance(value, Mapping) else str(value)))


class _Reader:
    """Checks the parsed YAML field by field, so that an error can name the field."""

    def __init__(self, file: str) -> None:
        self._file = file

    def fields(self, data: Any) -> dict[str, Any]:
        data = self._mapping("---", data, _KEYS)
        variables = data.get("variables") or []
        if not isinstance(variables, list):
            raise self._wrong("variables", variables, "a list", "リスト")
        found = tuple(self._variable(item) for item in variables)
        names = [variable.name for variable in found]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise self._wrong("variables", twice[0], "each name once", "名前は1回ずつ")
        schema = data.get("schema")
        return {
            "name": self._text("name", data.get("name")),
            "description": self._both("description", data.get("description")),
            "variables": found,
            "model": self._text("model", data.get("model")),
            "params": _plain(self._mapping("params", data.get("params") or {})),
            "schema": None if schema is None else _plain(self._mapping("schema", schema)),
        }

    def _variable(self, data: Any) -> Variable:
        data = self._mapping("variables", {"name": data} if isinstance(data, str) else data, _VARIABLE_KEYS)
        name = normalize_name(self._text("name", data.get("name")) or "")
        if not is_name(name):
            raise self._wrong("variables: name", name, "letters, digits and _", "文字、数字、_")
        kind = data.get("kind", "text")
        if kind not in _KINDS:
            raise self._wrong(f"{name}: kind", kind, ", ".join(_KINDS), "、".join(_KINDS))
        options = data.get("options") or []
        if not isinstance(options, list) or (kind == "select") != bool(options):
            raise self._wrong(f"{name}: options", options, "a list for a select, nothing else", "selectのときだけリスト")
        required = data.get("required", True)
        if not isinstance(required, bool):
            raise self._wrong(f"{name}: required", required, "true, false", "true、false")
        return Variable(
            name,
            kind=kind,
            required=required,
            default=self._default(name, kind, data.get("default")),
            options=tuple(str(self._text(f"{name}: options", option) or "") for option in options),
            minimum=self._number(f"{name}: minimum", data.get("minimum")),
            maximum=self._number(f"{name}: maximum", data.get("maximum")),
            label=self._both(f"{name}: label", data.get("label")),
            example=self._both(f"{name}: example", data.get("example")),
        )

    def _default(self, name: str, kind: str, value: Any) -> str | float | None:
        return self._number(f"{name}: default", value) if kind == "number" else self._text(f"{name}: default", value)

    def _mapping(self, field: str, value: Any, allowed: tuple[str, ...] | None = None) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._wrong(field, value, "lines of “key: value”", "「キー: 値」の行")
        if allowed and (unknown := [key for key in value if key not in allowed]):
            raise self._wrong(field, unknown[0], ", ".join(allowed), "、".join(allowed))
        return value

    def _both(self, field: str, value: Any) -> dict[str, str]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            return dict.fromkeys(("ja", "en"), self._text(field, value) or "")
        return {str(language): self._text(field, text) or "" for language, text in value.items()}

    def _text(self, field: str, value: Any) -> str | None:
        if isinstance(value, (dict, list)):
            raise self._wrong(field, value, "a text", "文字列")
        return json.dumps(value) if isinstance(value, bool) else None if value is None else str(value)

    def _number(self, field: str, value: Any) -> float | None:
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise self._wrong(field, value, "a number", "数値")
        return value

    def _wrong(self, field: str, value: Any, en: str, ja: str) -> UnreadableFile:
        shown = str(value)[:80]
        return unreadable(self._file, f"“{shown}” does not work for {field} (allowed: {en})", f"{field}に「{shown}」は使えません（使えるもの：{ja}）")

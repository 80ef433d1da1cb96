"""Structured output: the JSON in an answer is found, and what breaks the schema is named in both languages."""

from __future__ import annotations

import time

import pytest

from llmops_kit.errors import InvalidValue
from llmops_kit.playground.schema import check_schema

SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 5},
        "kind": {"enum": ["質問", "要望"]},
        "items": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}},
    },
    "required": ["title"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "answer",
    [
        '{"title": "春"}',
        '  \n{"title": "春"}\n',
        '結果です。\n```json\n{"title": "春"}\n```\n以上です。',
        '~~~\n{"title": "春"}\n~~~',
        'はい、{"title": "春"} がその結果です。{これは違います}',
        "集合 {a, b} ではなく {\"title\": \"春\"}",
    ],
)
def test_the_json_is_found_wherever_it_stands(answer):
    check = check_schema(answer, SCHEMA)
    assert check.ok
    assert check.value == {"title": "春"}
    assert check.message_en == check.message_ja == ""


@pytest.mark.parametrize(
    ("answer", "en", "ja"),
    [
        ('{"title": 3}', "$.title is 3 and must be of type “string”", "$.titleの値3は“string”型"),
        ('{"title": "春はあけぼの"}', "$.title is “春はあけぼの” and must have at most 5 characters", "5文字以下"),
        ('{"title": "春", "kind": "苦情"}', '$.kind is “苦情” and must be one of ["質問", "要望"]', "いずれか"),
        ('{"title": "春", "items": [{"n": 1}, {"n": 0}]}', "$.items[1].n is 0 and must be at least 1", "$.items[1].nの値0は1以上"),
        ('{"kind": "質問"}', "lacks a required name", "：title。"),
        ('{"title": "春", "他": 1}', "names that are not allowed: 他", "許可されていない項目があります：他"),
        ("[1]", "must be of type “object”", "“object”型"),
        ("わかりません。", "holds no JSON", "JSONがありません"),
        ('{"title": "春", "items": [', "breaks off or is wrong at character", "文字目で途切れているか"),
        ('{"title": NaN}', "holds no proper JSON", "正しいJSON"),
    ],
)
def test_a_failure_names_the_place_the_value_and_the_rule(answer, en, ja):
    check = check_schema(answer, SCHEMA)
    assert not check.ok
    assert en in check.message("en"), check.message_en
    assert ja in check.message("ja-JP"), check.message_ja


@pytest.mark.parametrize("schema", [{"type": "objekt"}, {"$ref": "http://127.0.0.1:9/schema.json"}, {"properties": {"a": 3}}])
def test_a_wrong_schema_is_said_and_nothing_is_fetched(schema):
    with pytest.raises(InvalidValue, match="schema"):
        check_schema('{"a": 1}', schema)


@pytest.mark.parametrize("answer", ["[" * 1_000_000, "{" * 1_000_000, '{"a":' * 200_000, "`" * 100_000, "```\n" * 50_000])
def test_hostile_answers_end_soon(answer):
    started = time.monotonic()
    assert not check_schema(answer, SCHEMA).ok
    assert time.monotonic() - started < 5

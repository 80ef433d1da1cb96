"""Personal data: what is found, what is left alone, and that the places are those of the text as it was typed."""

from __future__ import annotations

from itertools import pairwise

import pytest

from llmops_kit.personal_data import find_personal_data


def kinds(text: str) -> list[str]:
    return [found.kind for found in find_personal_data(text)]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("メールはtaro@example.co.jpまで", "email"),
        ("write to x.y+z@example.org.", "email"),
        ("ＭＡＩＬ：ｔａｒｏ＠ｅｘａｍｐｌｅ．ｃｏｍ", "email"),
        ("電話は03-1234-5678です", "phone"),
        ("連絡先は０９０－１２３４－５６７８です", "phone"),
        ("03ー1234ー5678", "phone"),
        ("電話0312345678", "phone"),
        ("09012345678", "phone"),
        ("Call +1 415-555-2671 now", "phone"),
        ("マイナンバーは６２１４ ９８３２ ０２５７", "my_number"),
        ("個人番号：621498320257", "my_number"),
        ("カード 4111 1111 1111 1111", "card"),
        ("ｶｰﾄﾞは３５３０－１１１３－３３３０－００００", "card"),
        ("378282246310005", "card"),
        ("東京都千代田区霞が関1-2-3にあります", "address"),
        ("〒100-0013 東京都千代田区霞が関１丁目２番３号", "address"),
        ("I live at 123 Main Street, Springfield, IL 62704 now", "address"),
    ],
)
def test_personal_data_is_found_once_and_as_what_it_is(text, kind):
    assert kinds(text) == [kind]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "😀 ふつうの文です。",
        "2026-11-26 10:00:00",
        "2025/01/02-2025/03/04",
        "1,200,000円",
        "注文番号 621498320257",
        "個人番号：621498320258",
        "4111 1111 1111 1112",
        "1234-5678-9012-3456",
        "12345678901234567890",
        "3.14159265358979",
        "0.0312345678",
        "0312345678",
        "192.168.100.200",
        "ISBN 978-4-10-101001-4",
        "大阪府は人口が多い。千葉県市川市で3-2で勝った",
        "東京都の2025年度の予算",
        "user@localhost と @mention",
        "https://example.jp/12-3456-7890",
        "10 Big Trees",
    ],
)
def test_what_only_looks_like_it_is_left_alone(text):
    assert kinds(text) == []


def test_places_are_those_of_the_text_as_typed():
    text = "名前：山田😀、電話：０９０－１２３４－５６７８、住所：大阪府大阪市北区梅田１－２－３"
    found = find_personal_data(text)
    assert [each.kind for each in found] == ["phone", "address"]
    assert all(text[each.start : each.end] == each.text for each in found)
    assert found[0].text == "０９０－１２３４－５６７８"
    assert "１２３４" not in found[0].masked


def test_several_in_one_text_do_not_overlap():
    found = find_personal_data("a@example.com / 03-1234-5678 / 4111-1111-1111-1111")
    assert [each.kind for each in found] == ["email", "phone", "card"]
    assert all(first.end <= second.start for first, second in pairwise(found))

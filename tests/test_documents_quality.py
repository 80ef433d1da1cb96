"""The facts of pages, what is cut, and the sentences about outcomes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmops_kit.documents.reading import Limits, PageFacts, ReadOptions
from llmops_kit.documents.reading.quality import describe
from llmops_kit.documents.reading.reasons import QUESTIONS, REASONS, WARNINGS, reason
from llmops_kit.documents.reading.records import RawDocument, RawPage, Unreadable


def test_pages_and_characters_over_the_limits_are_cut_with_a_warning() -> None:
    pages = [RawPage("あ" * 9, headings=[(0, 1, "あ"), (8, 1, "い")]) for _ in range(5)]
    found = describe(RawDocument(pages, "test"), "txt", replace(Limits(), pages=3, characters=25))
    assert [page["text"] for page in found["pages"]] == ["あ" * 9 + "\n", "あ" * 9 + "\n", "あ" * 4 + "\n"]
    assert found["pages"][2]["facts"]["headings"] == ((0, 1, "あ"),) and found["warnings"] == ["truncated"]


def test_facts_count_what_cannot_be_read() -> None:
    found = describe(RawDocument([RawPage("(cid:12)(cid:9) \ufffd\ue000 ABC 日本のテスト\x00\ud800"), RawPage(" \n")], "test"), "pdf", Limits())
    first, second = (PageFacts.from_dict(page["facts"]) for page in found["pages"])
    assert (first.cid_marks, first.replacement_marks, first.is_empty, second.is_empty) == (2, 4, False, True)
    assert set(found["warnings"]) == {"cid", "replacement", "empty_pages"}
    assert "\x00" not in found["pages"][0]["text"] and found["pages"][0]["text"].endswith("\n")


def test_lines_that_return_on_many_pages_are_reported_and_kept() -> None:
    pages = [
        RawPage(f"株式会社はなだ 社外秘\n{number}番目の本文の一行目です。\n{'本文' * number}が続きます。\nここも違う{'行' * number}です。\n- {number} -\n")
        for number in range(1, 6)
    ]
    found = describe(RawDocument(pages, "pdf"), "pdf", Limits())
    assert [page["facts"]["repeated_lines"] for page in found["pages"]][1] == ("株式会社はなだ 社外秘", "2番目の本文の一行目です。", "- 2 -")
    assert "repeated" in found["warnings"] and "社外秘" in found["pages"][0]["text"]
    alone = describe(RawDocument(pages, "text", paged=False), "txt", Limits())
    assert "repeated" not in alone["warnings"]


def test_a_document_without_pages_or_text_is_refused() -> None:
    with pytest.raises(Unreadable, match="no_pages"):
        describe(RawDocument([], "test"), "pdf", Limits())
    assert describe(RawDocument([RawPage(" \n")], "test"), "pdf", Limits())["key"] == "no_text"
    assert describe(RawDocument([RawPage("\ufffd" * 20 + "abc")], "test"), "pdf", Limits())["key"] == "garbled"


def test_facts_and_options_survive_json() -> None:
    facts = PageFacts(characters=3, repeated_lines=("a",), headings=((0, 1, "章"),), width_pt=595.0)
    assert PageFacts.from_dict({**facts.to_dict(), "unknown": 1}) == facts
    options = ReadOptions(reader="pypdf", ocr=True, password="x")
    assert ReadOptions.from_dict(options.to_dict()) == options and "x'" not in repr(options)


@pytest.mark.parametrize("texts", [REASONS, QUESTIONS, WARNINGS])
def test_every_sentence_is_there_in_both_languages_with_the_same_blanks(texts: dict[str, dict[str, str]]) -> None:
    for key, both in texts.items():
        english, japanese = ({part.split("}")[0] for part in both[language].split("{")[1:]} for language in ("en", "ja"))
        assert english == japanese, key
        assert both["en"].endswith(".") and both["ja"].endswith("。"), key


def test_a_reason_is_filled_in_both_languages() -> None:
    assert reason("encoding", {"candidates": ["cp932", "euc-jp"]})["ja"] == "文字コードを判定できません。選んでください：cp932、euc-jp。"
    assert reason("protected", {"detail": {"en": "a key", "ja": "鍵"}})["ja"].count("鍵") == 1
    assert "nonsense" in reason("nonsense")["en"]

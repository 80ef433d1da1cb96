"""Chunking: nothing lost, sentences, words and rows whole, headings and pages right; on real Japanese text and on texts that break splitters."""

from __future__ import annotations

import gzip
import json
import re
import unicodedata
from bisect import bisect
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_kit.documents.chunking import HARD, chunk_pages, document_text
from llmops_kit.documents.sentences import is_row, sentences
from llmops_kit.errors import InvalidValue
from llmops_kit.types.documents import Page

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
SAMPLES = Path(__file__).parent.parent / "llmops_kit" / "documents" / "samples"


def page(text, number=1, headings=(), dropped=False, **facts):
    return Page(id=f"d:{number}", document_id="d", number=number, text=text, dropped=dropped, facts={"headings": [list(one) for one in headings], **facts})


def texts_of(pages, **options):
    text = document_text(pages)
    return [text[piece.start: piece.end] for piece in chunk_pages(pages, **options)]


def chunks_of(text, **options):
    return texts_of([page(text)], **options)


def read_real(name, limit, paragraphs):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path.name} is not beside the project")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [text for line in islice(lines, limit) if (text := paragraphs(json.loads(line)))]


def jaquad():
    return list(dict.fromkeys(read_real("qa/jaquad_dev.jsonl.gz", 4000, lambda row: row.get("context", "") + "\n")))


def kyoto():
    return read_real("text/kyoto.jsonl.gz", 300, lambda row: "\n\n".join("".join(pair[0] for pair in part) for part in row["pars"]) + "\n")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("休暇は10日です。申請は3日前まで！いいですか？はい", ["休暇は10日です。", "申請は3日前まで！", "いいですか？", "はい"]),
        ("「はい。行く。」と答えた。次だ。", ["「はい。行く。」と答えた。", "次だ。"]),
        ("「行く。」彼は言った。", ["「行く。」", "彼は言った。"]),
        ("規程（以下「本規程」という。）を守る。終わり。", ["規程（以下「本規程」という。）を守る。", "終わり。"]),
        ("開いたままの「引用。\n次の行。", ["開いたままの「引用。\n", "次の行。"]),
        ("本当！？　そうです。", ["本当！？\u3000", "そうです。"]),
        ("円周率は３．１４です．次に進む．", ["円周率は３．１４です．", "次に進む．"]),
        ("Mr. Smith paid 3.5 USD. He left! See Fig. 3. “Stop.”", ["Mr. Smith paid 3.5 USD. ", "He left! ", "See Fig. 3. ", "“Stop.”"]),
        ("Then e.g. this. Or that.", ["Then e.g. this. ", "Or that."]),
        ("http://a.b/?q=1!x を見る。Yahoo!ニュースも。", ["http://a.b/?q=1!x を見る。", "Yahoo!ニュースも。"]),
        ("1. 一つ目\n2. Two things. Three.\n", ["1. 一つ目\n", "2. Two things. ", "Three.\n"]),
        ("第1条。\n\n\u3000段落。\n", ["第1条。\n\n", "\u3000段落。\n"]),
        ("| 氏名 | 備考。あり |\n| 山田 | なし |\n", ["| 氏名 | 備考。あり |\n", "| 山田 | なし |\n"]),
        ("```\nx = 'a。b'\n\ny = 1\n```\nおわり。つぎ。", ["```\n", "x = 'a。b'\n\n", "y = 1\n", "```\n", "おわり。", "つぎ。"]),
        (" \n\nあ。", [" \n\nあ。"]),
        ("\n \n", ["\n \n"]),
        ("", []),
    ],
)
def test_sentences(text, parts):
    assert [text[start:end] for start, end in sentences(text)] == parts


def test_a_line_broken_by_the_width_of_the_page_does_not_end_a_sentence():
    wrapped = "本規程は、株式会社サンプルに勤務する従業員の就業に関する事項を定め\nるものです。守ってください。\n"
    assert [wrapped[a:b] for a, b in sentences(wrapped)] == [wrapped[:-9], "守ってください。\n"]
    for fresh in ("・有給休暇\n", "1. 有給休暇\n", "第2条 休暇\n", "\u3000次の段落です。\n", "| a | b |\n"):
        text = wrapped[:33] + "\n" + fresh
        assert [text[a:b] for a, b in sentences(text)] == [wrapped[:33] + "\n", fresh]
    assert [len(wrapped[a:b].splitlines()) for a, b in sentences(wrapped, code=True)] == [1, 1]


def test_chunks_end_at_sentences_and_stay_below_the_size():
    text = "有給休暇は、入社から6か月たった日に10日付与します。" * 40
    chunks = chunks_of(text, size=100)
    assert "".join(chunks) == text
    assert all(chunk.endswith("。") and 54 <= len(chunk) <= 100 for chunk in chunks[:-1])


def test_a_short_text_is_one_chunk_and_an_empty_one_none():
    assert chunks_of("休暇。\n申請。\n") == ["休暇。\n申請。\n"]
    assert chunk_pages([]) == [] and chunk_pages([page("")]) == []
    assert chunks_of(" \n\n") == [" \n\n"]


def test_rows_are_whole_until_the_hard_limit_and_then_cut_between_cells():
    row = "| " + " | ".join(f"項目{number}の値。説明" for number in range(12)) + " |\n"
    assert 100 < len(row) <= HARD * 100
    assert chunks_of("表の説明です。\n" + row * 3 + "表の後です。\n", size=100) == ["表の説明です。\n", row, row, row, "表の後です。\n"]
    long = "\t".join(f"値{number}番" for number in range(300)) + "\n"
    chunks = chunks_of(long, size=100)
    assert "".join(chunks) == long and all(chunk[-1] in "\t\n" for chunk in chunks) and len(chunks) > 3


def test_a_long_sentence_is_cut_at_commas_spaces_and_borders_of_scripts():
    commas = "申請書を提出し、" * 60
    assert all(chunk.endswith("、") for chunk in chunks_of(commas, size=100))
    spaces = "annual leave request " * 60
    assert all(chunk.endswith((" ", "request ")) and chunk.split()[0] in ("annual", "leave", "request") for chunk in chunks_of(spaces, size=100))
    phrases = "申請書を部長に提出するものとする" * 40
    assert all(chunk[-1] in "をにのとる" for chunk in chunks_of(phrases, size=100))
    brackets = "「" + "はい。" * 100
    assert all(chunk.endswith("。") for chunk in chunks_of(brackets, size=50))
    assert all(re.fullmatch(r"(\d{1,3}(,\d{3})*円)+", chunk) for chunk in chunks_of("1,234,567円" * 90, size=50))


@pytest.mark.parametrize("whole", ["データベース", "workshop", "3,000,000", "👨\u200d👩\u200d👧", "🇯🇵", "か\u3099", "https://a.jp/b?c=1", "らー"])
def test_words_numbers_and_emoji_are_never_cut(whole):
    text = f"{whole}の" * 150
    for size in (20, 37, 50, 99):
        chunks = chunks_of(text, size=size)
        assert "".join(chunks) == text and len(chunks) > 3
        assert all(re.fullmatch(f"の?({re.escape(whole)}の)*({re.escape(whole)})?", chunk) for chunk in chunks)


ANYTHING = {
    "no punctuation": "有給休暇の申請は部長が承認する" * 70_000,
    "one word": "a" * 1_000_000,
    "digits": "9" * 1_000_000,
    "only ends": "。" * 1_000_000,
    "closers": "。" + "」" * 1_000_000,
    "open brackets": "「あ。" * 250_000,
    "emoji": "👨\u200d👩\u200d👧" * 200_000,
    "accents": "e" + "\u0301" * 1_000_000,
    "tabs": "\t" * 1_000_000,
    "spaces": "あ" + " " * 1_000_000 + "い",
    "lines": "あ\n" * 300_000,
    "empty lines": "\n" * 1_000_000,
    "bars": "| " * 500_000,
    "surrogates": "\ud83d" * 100_000,
}


@pytest.mark.parametrize("text", ANYTHING.values(), ids=ANYTHING.keys())
def test_a_million_characters_of_anything(text):
    chunks = chunks_of(text)
    assert "".join(chunks) == text
    assert max(len(chunk.strip()) for chunk in chunks) <= HARD * 400


def test_code_is_cut_at_line_ends():
    code = "".join(f"def function_{number}(value):\n    return 'a。b' if value else [1, 2]\n\n" for number in range(50))
    chunks = chunks_of(code, size=200, kind="py", paged=False)
    assert "".join(chunks) == code and len(chunks) > 10
    assert all(chunk.endswith("\n") for chunk in chunks)
    fenced = "説明です。\n```python\n" + code + "```\n終わり。\n"
    assert all(chunk.endswith("\n") for chunk in chunks_of(fenced, size=200))


RULES = "# 就業規則\n本書は規則です。\n## 休暇\n### 年次有給休暇\n10日です。\n#### 申請\n3日前まで。\n## 経費\n月末締め。\n"


def headings_of(text):
    return [(match.start(), len(match[1]), match[2]) for match in re.finditer(r"^(#+) (.+)$", text, re.MULTILINE)]


def test_headings_begin_chunks_and_are_kept_as_a_path():
    pieces = chunk_pages([page(RULES, headings=headings_of(RULES))], paged=False)
    assert [(RULES[piece.start: piece.end].split("\n")[0], piece.heading, piece.line, piece.page) for piece in pieces] == [
        ("# 就業規則", "就業規則", 1, None),
        ("## 休暇", "就業規則 > 休暇 > 年次有給休暇", 3, None),
        ("## 経費", "就業規則 > 経費", 8, None),
    ]
    assert pieces[1].end == RULES.index("## 経費"), "a heading of level 4 begins no chunk"


@dataclass(frozen=True)
class Facts:
    headings: tuple[tuple[int, int, str], ...] = ()
    repeated_lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class FreshPage:
    number: int
    text: str
    facts: Facts = field(default_factory=Facts)


def test_pages_that_were_just_read_serve_as_well_as_stored_ones():
    stored = chunk_pages([page(RULES, headings=headings_of(RULES)), page("続きです。\n", 2)])
    assert chunk_pages([FreshPage(1, RULES, Facts(tuple(headings_of(RULES)))), FreshPage(2, "続きです。\n")]) == stored
    assert stored[-1].page == 2 and stored[-1].heading == "就業規則 > 経費", "a heading holds on the next page"


def test_a_chunk_ends_with_its_page_unless_a_sentence_goes_on():
    whole = [page("有給休暇は10日です。\n", 1), page("申請は3日前まで。\n", 2)]
    assert texts_of(whole) == ["有給休暇は10日です。\n", "申請は3日前まで。\n"]
    running = [page("規則。有給休暇は入社から6か月で\n", 1), page("10日付与します。次の文。\n", 2)]
    assert texts_of(running) == ["規則。有給休暇は入社から6か月で\n10日付与します。", "次の文。\n"]
    assert [piece.page for piece in chunk_pages(running)] == [1, 2]
    assert texts_of(whole, paged=False) == ["有給休暇は10日です。\n申請は3日前まで。\n"]
    footer = [page("休暇は\n社外秘\n", 1, repeated_lines=["社外秘"]), page("10日です。\n社外秘\n", 2, repeated_lines=["社外秘"])]
    assert texts_of(footer)[0] == "休暇は\n社外秘\n"
    numbered = [page("休暇は\n- 1 -\n", 1), page("10日です。\n", 2)]
    assert texts_of(numbered)[0] == "休暇は\n- 1 -\n"


def test_blank_and_dropped_pages():
    pages = [page("\n", 1), page("休暇。\n", 2), page("\n\n", 3), page("裏。\n", 4, dropped=True), page("申請。\n", 5)]
    assert document_text(pages) == "\n休暇。\n\n\n申請。\n"
    assert [(piece.start, piece.end, piece.page, piece.line) for piece in chunk_pages(pages)] == [(0, 7, 2, 2), (7, 11, 5, 5)]


def test_the_size_is_checked():
    for size in (0, 19, 20_001):
        with pytest.raises(InvalidValue, match=str(size)):
            chunk_pages([page("休暇。")], size=size)


def parts_of_a_character(text, cut):
    """Whether the character after `cut` combines with the one before it."""
    if not 0 < cut < len(text) or text[cut - 1] in "\r\n":
        return False
    return unicodedata.category(text[cut]) in ("Mn", "Me", "Mc") or "\u200d" in text[cut - 1: cut + 1]


def inside_a_word(text, cut):
    around = text[cut - 1: cut + 1]
    return bool(re.fullmatch(r"[A-Za-z]{2}|[0-9]{2}|[ァ-ヺー]{2}", around)) or bool(re.fullmatch(r"\d[.,]\d", text[cut - 2: cut + 1]))


PARTS = st.sampled_from([
    "有給休暇", "は", "10日", "です。", "！", "？", "「", "」", "（", "）", "、", "\n", "\n\n", " ", "\u3000", "\t", " | ", "| ", "データ", "サーバー", "ー",
    "。", "．", "leave", "Mr. ", "end. Next", "3,000.5", "...", "か\u3099", "👨\u200d👩\u200d👧", "🇯🇵", "👍🏽", "e\u0301", "\u0301", "\u200d", "```\n", "# ",
    "- ", "1. ", "第1条", "https://a.jp/b ", "\ud83d", "\x00", "\u2028", "\r\n", "ﾃﾞｰﾀ",
])
MIXED = st.lists(PARTS | st.text(max_size=4), max_size=120).map("".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(MIXED, max_size=4), st.sampled_from([20, 33, 64, 400]), st.booleans(), st.sampled_from(["", "py"]), st.data())
def test_nothing_is_lost_and_no_word_or_row_is_cut(texts, size, paged, kind, data):
    pages = [
        page(text, number, [(data.draw(st.integers(0, len(text))), data.draw(st.integers(1, 5)), "見出し")] if data.draw(st.booleans()) else [])
        for number, text in enumerate(texts, 1)
    ]
    text = document_text(pages)
    pieces = chunk_pages(pages, size=size, paged=paged, kind=kind)
    assert "".join(text[piece.start: piece.end] for piece in pieces) == text
    assert all(first.end == second.start for first, second in pairwise(pieces))
    given_borders = {piece.start for piece in pieces} & _given_borders(pages)
    for piece in pieces:
        content = text[piece.start: piece.end].strip()
        if not content:
            assert len(pieces) == 1
            continue
        assert piece.line == text.count("\n", 0, text.index(content, piece.start)) + 1
        assert len(content) <= HARD * size
        if len(content) > size:
            assert len(re.findall(r"[ぁ-ゖ一-鿿]", content)) <= size or is_row(content)
        if piece.start not in given_borders:
            assert not parts_of_a_character(text, piece.start) and not inside_a_word(text, piece.start)


def _given_borders(pages):
    """Where a heading or a page begins: cuts that were asked for."""
    starts, places = 0, set()
    for one in pages:
        places |= {starts, *(starts + offset for offset, _, _ in one.facts["headings"])}
        starts += len(one.text)
    return places


@settings(max_examples=100, deadline=None)
@given(MIXED, st.booleans())
def test_sentences_lose_nothing(text, code):
    spans = sentences(text, code=code)
    assert "".join(text[start:end] for start, end in spans) == text
    assert all(start < end for start, end in spans)
    starts = {start for start, _ in spans}
    alone = [line for line in text.split("\n") if line and text.count(line) == 1]
    assert all(text.index(line) in starts or not text[: text.index(line)].strip() for line in alone if is_row(line))


@pytest.mark.parametrize("read", [jaquad, kyoto])
@pytest.mark.parametrize("size", [100, 400])
def test_real_japanese_text(read, size):
    texts, ends, total = read(), 0, 0
    for text in texts:
        pieces = chunk_pages([page(text)], size=size)
        chunks = [text[piece.start: piece.end] for piece in pieces]
        assert "".join(chunks) == text
        longer = [chunk.strip() for chunk in chunks if len(chunk.strip()) > size]
        assert all(is_row(chunk) or not re.search(r"[ぁ-ゖァ-ヺ一-鿿\s]", chunk) for chunk in longer), "only rows and words are longer"
        assert not any(inside_a_word(text, piece.start) or parts_of_a_character(text, piece.start) for piece in pieces)
        lengths = {end: len(text[start:end].rstrip()) for start, end in sentences(text)}
        places = sorted(lengths)
        assert all(piece.end in lengths or lengths[places[bisect(places, piece.end)]] > size for piece in pieces), "only a longer sentence is cut"
        total += len(chunks)
        ends += sum(chunk.endswith("\n") or re.search("[。！？!?.．][」』）)\"”]*\\s*$", chunk) is not None for chunk in chunks)
    assert total > 500
    assert ends / total > (0.85 if size == 100 else 0.98)


def test_the_samples():
    for path in sorted(SAMPLES.glob("*.md")) + sorted(SAMPLES.glob("*.txt")):
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        pieces = chunk_pages([page(text, headings=headings_of(text))], paged=False)
        assert "".join(text[piece.start: piece.end] for piece in pieces) == text and len(pieces) > 1

"""Reading tables: right text or a refusal in every encoding, cells as they were typed, limits that say their number."""

from __future__ import annotations

import io
import json
import time
import zipfile

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_kit.errors import InvalidValue, UnknownName, UnreadableFile
from llmops_kit.playground.decoding import decode_text
from llmops_kit.playground.rows import read_rows, suggest_mapping
from llmops_kit.types import Variable

TEXT = "番号,本文\r\n００１,春はあけぼの。ﾔｳﾔｳ白くなりゆく山ぎは\r\n0007,有給休暇は何日ですか？\r\n"
LONG = TEXT.replace("ﾔｳﾔｳ", "やうやう")


def csv_of(data: bytes, **options):
    return read_rows(data, file="質問.csv", **options)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932", "euc_jp", "iso2022_jp", "utf-16", "utf-32"])
def test_japanese_csv_is_read_in_its_own_encoding(encoding):
    table = csv_of(LONG.encode(encoding))
    assert table.columns == ("番号", "本文")
    assert [row["番号"] for row in table.rows] == ["００１", "0007"]
    assert table.rows[1]["本文"] == "有給休暇は何日ですか？"
    assert table.encoding == encoding


def test_utf_16_with_big_endian_mark_is_read():
    assert csv_of(b"\xfe\xff" + LONG.encode("utf-16-be")).rows[0]["本文"].startswith("春はあけぼの")


def test_half_width_katakana_of_old_systems_is_read():
    assert csv_of(TEXT.encode("cp932")).rows[0]["本文"] == "春はあけぼの。ﾔｳﾔｳ白くなりゆく山ぎは"


def test_characters_only_windows_has_survive():
    text = "名前,額\n髙﨑,①㈱〜￥～\n"
    assert csv_of(text.replace("〜", "").encode("cp932")).rows[0] == {"名前": "髙﨑", "額": "①㈱￥～"}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (LONG.encode("utf-16-le"), "UTF-16 without a mark"),
        ("名前,値\nあ,い\n".encode() + "春,夏\n".encode("cp932"), "two encodings in one file"),
        (LONG.encode()[:-10], "cut in the middle of a character"),
        ("nom,texte\nAndré,été à la plage où l'élève était\n".encode("latin-1"), "Latin-1, which cp932 would accept"),
        ("ｱｲ\nｳｴ\n".encode("cp932"), "half-width katakana that are also EUC-JP kanji"),
        (b"a,b\n1,\x00\n", "NUL"),
        (bytes(range(128, 256)) * 3, "random bytes"),
    ],
)
def test_what_cannot_be_told_is_refused_and_asks(data, why):
    with pytest.raises(UnreadableFile) as refusal:
        csv_of(data)
    assert "質問.csv" in refusal.value.text("en")
    assert "cp932" in refusal.value.text("en"), why
    assert "文字コード" in refusal.value.text("ja"), why


def test_a_chosen_encoding_is_obeyed_strictly():
    latin = "nom,texte\nAndré,été\n".encode("latin-1")
    assert csv_of(latin, encoding="latin-1").rows[0] == {"nom": "André", "texte": "été"}
    with pytest.raises(UnreadableFile, match="byte 15"):
        csv_of(latin, encoding="utf-8")
    for nonsense in ("klingon", "base64", "rot13"):
        with pytest.raises(InvalidValue, match=nonsense):
            csv_of(latin, encoding=nonsense)


KANA = st.text(st.characters(min_codepoint=0x3041, max_codepoint=0x3093) | st.sampled_from("日本語東京都有給休暇規程。、ー"), min_size=12, max_size=60)


@settings(max_examples=150, deadline=None)
@given(KANA, st.sampled_from(["utf-8", "cp932", "euc_jp", "iso2022_jp"]))
def test_no_silent_mojibake(text, encoding):
    try:
        read, _ = decode_text(text.encode(encoding), file="x.txt")
    except UnreadableFile:
        return
    assert read == text


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=400), st.sampled_from(["a.csv", "a.tsv", "a.json", "a.jsonl", "a.xlsx", "upload"]))
def test_any_bytes_are_rows_or_a_refusal(data, name):
    try:
        table = read_rows(data, file=name)
    except UnreadableFile:
        return
    assert all(set(row) == set(table.columns) for row in table.rows)


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_the_delimiter_is_found(delimiter):
    text = f"id{delimiter}text\n1{delimiter}こんにちは、元気ですか\n2{delimiter}はい\n"
    table = csv_of(text.encode())
    assert (table.delimiter, table.columns, len(table.rows)) == (delimiter, ("id", "text"), 2)


def test_one_column_of_sentences_with_commas_is_not_split_into_ragged_rows():
    table = csv_of(b'text\n"Hello, world"\n"One, two, three"\n')
    assert [row["text"] for row in table.rows] == ["Hello, world", "One, two, three"]


def test_cells_stay_as_they_were_typed():
    table = csv_of('id,値,メモ\n007,１２３, 前の空白\n1e5,NA,"二行\r\nです, ""引用"""\n'.encode())
    assert table.rows == (
        {"id": "007", "値": "１２３", "メモ": " 前の空白"},
        {"id": "1e5", "値": "NA", "メモ": '二行\r\nです, "引用"'},
    )
    assert table.frame().map(type).eq(str).all(axis=None)


def test_headers_without_a_name_and_repeated_ones_get_one():
    table = csv_of(b"a,,a,a (2)\n1,2,3,4\n")
    assert table.columns == ("a", "column_2", "a (2)", "a (2) (2)")
    assert csv_of(b"1,2\n3,4\n", header=False).rows == ({"column_1": "1", "column_2": "2"}, {"column_1": "3", "column_2": "4"})


def test_blank_rows_are_skipped_and_short_ones_filled():
    assert csv_of(b"a,b\n\n1\n , \n2,3\n").rows == ({"a": "1", "b": ""}, {"a": "2", "b": "3"})


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.csv", b"a,b\n1,2\n1,2,3\n", "line 3 has 3 cells, the header has 2"),
        ("a.csv", b'a,b\n1,"open\n', "line 2"),
        ("a.csv", b"a,b\n", "no rows"),
        ("a.csv", b"  \n", "empty"),
        ("a.csv", ",".join(f"c{n}" for n in range(301)).encode() + b"\n1\n", "301 columns; at most 300"),
        ("a.jsonl", b'{"a": 1}\n{"a": 1,}\n', "line 2 is not proper JSON"),
        ("a.jsonl", b'{"a": 1}\n[1]\n', "row 2 is not a JSON object"),
        ("a.json", b"[" * 100_000, "nested too deep"),
        ("a.json", b'[{"a": ' + b"9" * 5000 + b"}]", "endless number"),
        ("a.xlsx", b"a,b\n1,2\n", "no XLSX workbook"),
        ("a.csv", b"PK\x03\x04....", "ZIP or XLSX"),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old .xls"),
        ("a.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "password"),
        ("a.xlsx", b"PK\x03\x04" + b"\x00" * 50, "damaged"),
        ("a.pdf", b"%PDF-1.7", ".pdf is not among"),
    ],
)
def test_a_refusal_names_the_file_the_place_and_the_reason(name, data, said):
    with pytest.raises(UnreadableFile) as refusal:
        read_rows(data, file=name)
    assert said in refusal.value.text("en")
    assert name in refusal.value.text("ja")


def test_limits_name_their_numbers(tmp_path):
    path = tmp_path / "big.csv"
    path.write_text("a\n" + "x\n" * 11)
    assert len(read_rows(path, max_rows=11).rows) == 11
    with pytest.raises(UnreadableFile, match="more than 10 rows"):
        read_rows(path, max_rows=10)
    with pytest.raises(UnreadableFile, match=r"at most 1e-05 MB"):
        read_rows(path, max_mb=0.00001)
    with pytest.raises(UnreadableFile, match="No such file"):
        read_rows(tmp_path / "none.csv")


def test_a_cell_of_a_megabyte_is_read():
    long = "あ" * 1_000_000
    assert csv_of(f"text\n{long}\n".encode()).rows[0]["text"] == long


def test_json_values_are_text_as_typed():
    data = json.dumps([{"a": "０１", "b": None, "c": True, "d": [1, "二"]}, {"e": 3}], ensure_ascii=False)
    table = read_rows(data.replace("3}", "1.10}").encode("utf-8-sig"), file="a.json")
    assert table.rows == ({"a": "０１", "b": "", "c": "true", "d": '[1, "二"]', "e": ""}, {"a": "", "b": "", "c": "", "d": "", "e": "1.10"})
    wrapped = read_rows(b'{"rows": [{"a": 1}, {"a": 2}]}', file="a.json")
    assert [row["a"] for row in wrapped.rows] == ["1", "2"]
    lines = read_rows('{"text": "一\\u2028二"}\n\n{"text": "三"}\n'.encode("cp932"), file="a.jsonl")
    assert [row["text"] for row in lines.rows] == ["一\u2028二", "三"]


def workbook(fill) -> bytes:
    book = openpyxl.Workbook()
    fill(book)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def test_a_workbook_is_read_as_a_person_sees_it():
    import datetime

    def fill(book):
        page = book.active
        page.append(["番号", "本文", "日付", "率"])
        page.append([7, "１２３　全角", datetime.date(2026, 4, 1), 0.1 + 0.2])
        page.append([12.0, "=見出し", datetime.datetime(2026, 4, 1, 9, 30), True])
        page["A2"].number_format = "0000000"
        page["B3"].data_type = "s"
        other = book.create_sheet("別のシート")
        other.append(["x"])
        other.append(["y"])

    data = workbook(fill)
    table = read_rows(data, file="表.xlsx")
    assert table.sheets == ("Sheet", "別のシート")
    assert table.rows[0] == {"番号": "0000007", "本文": "１２３　全角", "日付": "2026-04-01", "率": "0.3"}
    assert table.rows[1] == {"番号": "12", "本文": "=見出し", "日付": "2026-04-01 09:30:00", "率": "TRUE"}
    assert read_rows(data, file="表.xlsx", sheet="別のシート").rows == ({"x": "y"},)
    with pytest.raises(UnknownName, match="別のシート"):
        read_rows(data, file="表.xlsx", sheet="無い")


def test_formulas_that_were_never_computed_are_refused_not_read_as_nothing():
    def fill(book):
        book.active.append(["a", "b"])
        book.active.append([1, "=A2*2"])

    with pytest.raises(UnreadableFile, match="1 formulas"):
        read_rows(workbook(fill), file="a.xlsx")


def test_a_workbook_that_claims_a_million_rows_is_read_for_what_it_has():
    def fill(book):
        book.active.append(["a"])
        book.active.append(["1"])
        book.active.cell(row=1_048_576, column=1).number_format = "0"

    assert len(read_rows(workbook(fill), file="a.xlsx").rows) == 1


SHEET = '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
STRINGS = '<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
LAUGHS = '<!DOCTYPE x [<!ENTITY e0 "ha">' + "".join(f'<!ENTITY e{n} "&e{n - 1};&e{n - 1};">' for n in range(1, 40)) + "]>"
STYLES = '<styleSheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><cellXfs>'


@pytest.mark.parametrize(
    ("part", "content", "said"),
    [
        ("xl/sharedStrings.xml", "a" * 150_000_000, "at most 100 MB"),
        ("xl/sharedStrings.xml", STRINGS + "<si><t>a</t></si>" * 1_100_000, "more than 2,500,000 tags"),
        ("xl/worksheets/sheet1.xml", SHEET + "<row>" + "<c><v>1</v></c>" * 1_100_000, "more than 2,500,000 tags"),
        ("xl/worksheets/sheet1.xml", SHEET + "<row/>" * 5_000_000, "more than 2,500,000 tags"),
        ("xl/styles.xml", STYLES + "<xf/>" * 300_000, "more than 200,000 tags"),
        ("xl/worksheets/sheet1.xml", "<c " * 2_000_000, "damaged"),
        ("xl/worksheets/sheet1.xml", LAUGHS + SHEET + "<row><c><v>&e39;</v></c></row></sheetData></worksheet>", "damaged"),
    ],
)
def test_a_workbook_made_to_overwhelm_is_refused_soon(part, content, said):
    made = workbook(lambda book: (book.active.append(["a"]), book.active.append(["1"])))
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(made)) as source, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in source.namelist():
            if name != part:
                bomb.writestr(name, source.read(name))
        bomb.writestr(part, content)
    started = time.process_time()
    with pytest.raises(UnreadableFile, match=said):
        read_rows(buffer.getvalue(), file="bomb.xlsx")
    assert time.process_time() - started < 10


def test_preview_is_short_and_safe_to_show():
    table = csv_of(("text\n" + "<script>x</script>" + "あ" * 500 + "\n" + "行\n" * 20).encode())
    assert len(table.preview()) == 5
    assert table.preview(2, max_chars=10)["text"].tolist() == ["<script>x…", "行"]
    assert "<script>" not in table._repr_html_()


def test_columns_find_their_variables():
    variables = [Variable("text", label={"ja": "本文", "en": "Text"}), Variable("target_language", label={"ja": "訳文の言語"}), Variable("tone")]
    assert suggest_mapping(["ＩＤ", "本文", "Target Language", "備考"], variables) == {"text": "本文", "target_language": "Target Language", "tone": None}
    assert suggest_mapping(["Ｔｅｘｔ", "text"], ["text"]) == {"text": "text"}
    assert suggest_mapping(["質問文"], ["text"]) == {"text": "質問文"}
    assert suggest_mapping(["質問文", "回答"], ["質問", "回答例"]) == {"質問": "質問文", "回答例": "回答"}
    table = csv_of("本文,備考\nこんにちは,x\n".encode())
    assert table.map({"text": "本文", "tone": None}) == [{"text": "こんにちは"}]
    with pytest.raises(UnknownName, match="本文, 備考"):
        table.map({"text": "無い列"})

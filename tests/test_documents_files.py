"""Every file of files/documents.yaml, made by real programs, read through the guard: it ends as listed, and says what it holds."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_kit.documents.reading import Guard, Reading, ReadOptions
from llmops_kit.documents.reading.reasons import WARNINGS
from llmops_kit.documents.reading.records import Limits
from tests.files.large_files import LARGE

FILES = Path(__file__).parent / "files"
LISTED: list[dict[str, Any]] = yaml.safe_load((FILES / "documents.yaml").read_text(encoding="utf-8"))
SAMPLES = Path(__file__).parent.parent / "llmops_kit" / "documents" / "samples"
QUESTIONS: list[dict[str, str]] = yaml.safe_load((SAMPLES / "questions.yaml").read_text(encoding="utf-8"))
ENDINGS = {"indexed": "read", "warned": "read", "asks": "asks", "quarantined": "quarantined"}


@pytest.fixture(scope="module")
def guard() -> Iterator[Guard]:
    with Guard() as guard:
        yield guard


def place(entry: dict[str, Any], folder: Path) -> Path:
    """Where the file of the list is; a large one is written first."""
    if entry["file"] not in LARGE:
        return FILES / "documents" / entry["file"]
    path = folder / entry["file"]
    path.write_bytes(LARGE[entry["file"]]())
    return path


def ask(guard: Guard, entry: dict[str, Any], path: Path, into: Path, options: ReadOptions) -> Reading:
    """Read the file, or unpack it where it is an archive."""
    name = entry.get("name", entry["file"])
    return guard.expand(path, name, into, options) if name.endswith(".zip") else guard.read(path, name, options)


def text_of(reading: Reading) -> str:
    """The text of all pages."""
    return "".join(page.text for page in reading.pages)


def check_ending(entry: dict[str, Any], reading: Reading) -> None:
    said = (reading.state, reading.key, reading.facts, reading.warnings, text_of(reading)[:300])
    assert reading.state == ENDINGS[entry["ends"]], said
    if reading.state == "read":
        assert set(reading.warnings) == set(entry.get("keys", ())), said
        assert reading.reason is None
    else:
        assert reading.key in entry["keys"], said
        assert reading.reason is not None and reading.reason["en"] and reading.reason["ja"] and "?" not in reading.reason["en"].replace("· ?", ""), said


@pytest.mark.parametrize("entry", LISTED, ids=lambda entry: entry["file"])
def test_every_file_ends_as_listed(entry: dict[str, Any], guard: Guard, tmp_path: Path) -> None:
    path, into = place(entry, tmp_path), tmp_path / "members"
    into.mkdir()
    if "seconds" in entry:
        with Guard(Limits(processor_s=entry["seconds"])) as hurried:
            reading = ask(hurried, entry, path, into, ReadOptions())
    else:
        reading = ask(guard, entry, path, into, ReadOptions())
    check_ending(entry, reading)
    if "answer" in entry:
        reading = ask(guard, entry, path, into, ReadOptions(**entry["answer"]))
        assert reading.state == "read", reading
    text = text_of(reading)
    assert {words: text.count(words) for words in entry.get("once", ())} == dict.fromkeys(entry.get("once", ()), 1)
    assert [words for words in entry.get("holds", ()) if words not in text] == [], text[:600]
    assert [words for words in entry.get("lacks", ()) if words in text] == []
    assert reading.encoding == entry.get("encoding", reading.encoding)
    assert len(reading.pages) == entry.get("pages", len(reading.pages))
    assert all(page.text.endswith("\n") for page in reading.pages)
    assert [name for name, _ in reading.members] == entry.get("members", [])
    assert all(Path(member).resolve().parent == into and Path(member).is_file() for _, member in reading.members)
    assert [each for each in tmp_path.rglob("*") if each.is_symlink()] == []


def test_the_list_is_whole() -> None:
    names = [entry["file"] for entry in LISTED]
    assert len(names) == len(set(names)) >= 100
    assert {path.name for path in (FILES / "documents").iterdir()} | set(LARGE) == set(names)
    for entry in LISTED:
        assert entry["made"] and entry["ends"] in ENDINGS
        assert ("keys" in entry) is (entry["ends"] != "indexed"), entry
        assert entry["ends"] != "warned" or set(entry["keys"]) <= set(WARNINGS), entry


def test_the_files_stay_small() -> None:
    assert sum(path.stat().st_size for path in (FILES / "documents").iterdir()) < 4_000_000


def test_what_a_page_says_is_never_lost_in_the_making() -> None:
    """The corpus itself: the decomposed file is decomposed, the Shift_JIS one is not UTF-8, and so on; else its tests would test nothing."""
    folder = FILES / "documents"
    assert not unicodedata.is_normalized("NFC", (folder / "txt-nfd.txt").read_text(encoding="utf-8"))
    for name in ("csv-cp932.csv", "txt-cp932.txt", "html-wrong-meta.html", "txt-latin-1.txt"):
        with pytest.raises(UnicodeDecodeError):
            (folder / name).read_bytes().decode()
    with pytest.raises(UnicodeDecodeError):
        (folder / "csv-cp932.csv").read_bytes().decode("shift_jis")


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question["passage"][:20])
def test_the_samples_answer_their_questions(question: dict[str, str], guard: Guard) -> None:
    path = SAMPLES / question["document"]
    reading = guard.read(path, path.name)
    assert (reading.state, reading.warnings) == ("read", ()), reading
    assert text_of(reading).count(question["passage"]) == 1, text_of(reading)
    assert question["question"] and question["answer"]


def test_the_samples_are_six_and_small() -> None:
    files = [path for path in SAMPLES.iterdir() if path.is_file() and path.suffix not in (".py", ".yaml")]
    assert {question["document"] for question in QUESTIONS} == {path.name for path in files}
    assert len(files) == 6 and len(QUESTIONS) == 12
    assert all(path.stat().st_size < 150_000 for path in files)


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")
@pytest.mark.parametrize("entry", [entry for entry in LISTED if "recognised" in entry], ids=lambda entry: entry["file"])
def test_pages_without_right_text_are_read_by_recognition(entry: dict[str, Any], guard: Guard) -> None:
    before = guard.read(FILES / "documents" / entry["file"], entry["file"])
    assert before.reason is not None and "OCR" in before.reason["en"] and "OCR" in before.reason["ja"]
    assert {"scanned", "replacement"} & set(before.warnings)
    reading = guard.read(FILES / "documents" / entry["file"], entry["file"], ReadOptions(ocr=True))
    assert reading.state == "read" and "ocr" in reading.warnings, reading
    assert [words for words in entry["recognised"] if words not in text_of(reading)] == [], text_of(reading)

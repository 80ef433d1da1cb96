"""The texts a model is trained on from scratch: read from a folder, split into passages, kept with the job as they were."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llmops_kit.errors import InvalidValue, NotSaved, UnreadableFile
from llmops_kit.playground.decoding import decode_text

CORPUS_FILE = "texts.jsonl"
SUFFIXES = (".txt", ".md")
_PASSAGE_CHARACTERS = 200
_LEAST_CHARACTERS = 2000
_PARAGRAPH = re.compile(r"(?:.+\n?)+\n*|\n+")
_LINE = re.compile(r".+\n*|\n+")
_SENTENCE = re.compile(r"[^。．！？!?.]*[。．！？!?.]+[」』）)\s]*|[^。．！？!?.]+")
_PART = re.compile(rf"(?s:.{{1,{_PASSAGE_CHARACTERS}}})")


@dataclass(frozen=True)
class Text:
    """One file: its name in the folder and what stands in it."""

    name: str
    text: str


@dataclass(frozen=True)
class Corpus:
    """The texts of a folder in the order of their names; `sha256` is that of names and texts."""

    texts: tuple[Text, ...]
    sha256: str

    @property
    def characters(self) -> int:
        """How long they are together."""
        return sum(len(text.text) for text in self.texts)

    def split(self, share: float, seed: int) -> tuple[list[str], list[str]]:
        """Texts to learn from and passages kept for evaluation, the same for the same seed.

        A passage is a run of paragraphs, or of a long paragraph's lines or sentences, of about 200 characters. Which are kept is decided by a
        hash of what they say, so that a passage that stands in two files is on one side; at least one is on each side.
        """
        learnt: list[str] = []
        kept: list[str] = []
        for text in self.texts:
            rest: list[str] = []
            for passage in _passages(text.text):
                (kept if _draw(passage, seed) < share else rest).append(passage)
            if rest:
                learnt.append("".join(rest).strip())
        if not kept and learnt:
            first, *others = _passages(learnt[0])
            kept, learnt[0] = [first], "".join(others).strip()
        if not any(learnt) and len(kept) > 1:
            learnt = [kept.pop()]
        return [text for text in learnt if text], [passage.strip() for passage in kept]

    def freeze(self, folder: Path) -> None:
        """Write the texts into a job's folder. Raises: `NotSaved`."""
        lines = [json.dumps({"sha256": self.sha256}), *(json.dumps({"name": text.name, "text": text.text}, ensure_ascii=False) for text in self.texts)]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / CORPUS_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
        except OSError as fault:
            raise NotSaved(reason=fault.strerror or str(fault)) from fault


def read_corpus(folder: Path, *, max_mb: float) -> Corpus:
    """The .txt and .md files under `folder`; hidden ones and links are left out. UTF-8, cp932 and the other encodings of Japanese are recognised.

    Raises:
        UnreadableFile: the folder is not there, a file cannot be read as text, or they are larger than `max_mb` megabytes together.
        InvalidValue: there are no such files, or they are too short to learn a language from.
    """
    if not folder.is_dir():
        raise UnreadableFile(file=str(folder), reason={"en": "it is no folder", "ja": "フォルダーではありません"})
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and _is_plain(file, folder))
    size = sum(file.stat().st_size for file in files)
    if size > max_mb * 1e6:
        reason = {"en": f"its texts are {size / 1e6:.0f} MB; at most {max_mb:g} MB", "ja": f"文書が{size / 1e6:.0f} MBあります（上限{max_mb:g} MB）"}
        raise UnreadableFile(file=str(folder), reason=reason)
    texts = tuple(Text(file.relative_to(folder).as_posix(), _clean(_read(file))) for file in files)
    corpus = Corpus(tuple(text for text in texts if text.text), _hash(texts))
    if corpus.characters < _LEAST_CHARACTERS:
        raise InvalidValue(
            en=f"The texts (.txt, .md) have {corpus.characters:,} characters together; at least {_LEAST_CHARACTERS:,} are needed. Add more text.",
            ja=f"文章（.txt、.md）が合計{corpus.characters:,}字しかありません。{_LEAST_CHARACTERS:,}字以上必要です。文章を追加してください。",
            name="folder",
            value=folder,
        )
    return corpus


def read_frozen_corpus(folder: Path) -> Corpus:
    """The texts in a job's folder. Raises: `UnreadableFile` where they are not there or were changed."""
    file = folder / CORPUS_FILE
    try:
        head, *rows = (json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line)
    except (OSError, ValueError) as fault:
        raise UnreadableFile(file=CORPUS_FILE, reason=str(fault)) from fault
    corpus = Corpus(tuple(Text(**row) for row in rows), str(head["sha256"]))
    if _hash(corpus.texts) != corpus.sha256:
        raise UnreadableFile(file=CORPUS_FILE, reason={"en": "it was changed after the launch", "ja": "起動後に変更されています"})
    return corpus


def _is_plain(file: Path, folder: Path) -> bool:
    parts = file.relative_to(folder).parts
    return file.is_file() and not file.is_symlink() and not any(part.startswith(".") for part in parts)


def _read(file: Path) -> str:
    try:
        data = file.read_bytes()
    except OSError as fault:
        raise UnreadableFile(file=file.name, reason=fault.strerror or str(fault)) from fault
    return decode_text(data, file=file.name)[0]


def _clean(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def _hash(texts: tuple[Text, ...]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        if text.text:
            digest.update(json.dumps([text.name, text.text], ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def _passages(text: str) -> Iterator[str]:
    """Paragraphs, joined until they are long enough to be a passage, each with the line breaks after it; together they are the text."""
    held: list[str] = []
    for piece in _pieces(text):
        held.append(piece)
        if sum(map(len, held)) >= _PASSAGE_CHARACTERS:
            yield "".join(held)
            held = []
    if "".join(held).strip():
        yield "".join(held)


def _pieces(text: str) -> Iterator[str]:
    """Paragraphs; of one that is long, the lines; of a long line, the sentences; of a long sentence, parts of equal length."""
    for splitter in (_PARAGRAPH, _LINE, _SENTENCE, _PART):
        pieces = splitter.findall(text)
        if len(pieces) > 1 or splitter is _PART:
            for piece in pieces:
                yield from [piece] if len(piece) <= 2 * _PASSAGE_CHARACTERS else _pieces(piece)
            return


def _draw(passage: str, seed: int) -> float:
    """A number from 0 to 1 that depends on the seed and on what the passage says."""
    said = "".join(unicodedata.normalize("NFKC", passage).split())
    return int.from_bytes(hashlib.sha256(f"{seed} {said}".encode()).digest()[:8]) / 2**64

"""Reading the data folder: texts, questions, hashes, and the filter that keeps evaluation data out of training."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llmops_kit.errors import UnreadableFile

WINDOW_CHARACTERS = 25  # Japanese: a shared run of this many characters is an overlap
WINDOW_WORDS = 12  # English: a shared run of this many words is an overlap
EVALUATION_FILES = ("jglue/jsquad-valid.json", "qa/xquad_en.jsonl.gz")
TRAINING_FILES = ("qa/jaquad_train.jsonl.gz", "qa/new_wiki.jsonl.gz", "text/kyoto.jsonl.gz")


@dataclass(frozen=True)
class Question:
    """An extractive question: its answer is a substring of `context`."""

    language: str
    title: str
    context: str
    question: str
    answer: str


@dataclass(frozen=True)
class Passage:
    """A paragraph as its sentences, in order."""

    language: str
    title: str
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """The paragraph, joined as its language joins sentences."""
        return ("" if self.language == "ja" else " ").join(self.sentences)


def normalise(text: str) -> str:
    """NFKC, as the tokenizer does it."""
    return unicodedata.normalize("NFKC", text)


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_lines(path: Path) -> Iterator[dict[str, object]]:
    """The rows of a gzipped JSON-lines file.

    Raises:
        UnreadableFile: the file is absent.
    """
    if not path.exists():
        raise UnreadableFile(file=str(path), reason="not there; pass the data folder with --data")
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


def split_sentences(text: str) -> tuple[str, ...]:
    """Sentences of a Japanese or English text; quoted Japanese speech is not cut inside its brackets."""
    pieces = re.split(r"(?<=[。！？!?])(?![」』)）])\s*|(?<=[a-z0-9)\"”][.!?])\s+(?=[A-Z\"“])|\n+", text)
    return tuple(piece.strip() for piece in pieces if piece and piece.strip())


def read_questions(path: Path, language: str) -> Iterator[Question]:
    """The answerable questions of a JSON-lines file, normalised."""
    for row in read_lines(path):
        answers = row["answers"]
        if isinstance(answers, list) and answers:
            title, context, question, answer = (normalise(str(part)) for part in (row["title"], row["context"], row["q"], answers[0]))
            yield Question(language, title, context, question.strip(), answer.strip())


def read_jsquad(path: Path) -> Iterator[Question]:
    """The questions of JSQuAD, whose contexts read `title [SEP] paragraph`."""
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            context = normalise(paragraph["context"]).split("[SEP]", 1)[-1].strip()
            for row in paragraph["qas"]:
                yield Question("ja", normalise(article["title"]), context, normalise(row["question"]).strip(), normalise(row["answers"][0]["text"]).strip())


def read_passages(path: Path, limit: int) -> Iterator[tuple[Passage, Passage]]:
    """Paragraphs of the bilingual article file in both languages, at most `limit` articles."""
    for number, row in enumerate(read_lines(path)):
        if number >= limit:
            return
        for paragraph in row["pars"]:  # type: ignore[attr-defined]
            pairs = [(normalise(ja).strip(), normalise(en).strip()) for ja, en in paragraph if ja and en]
            if pairs:
                yield (
                    Passage("ja", normalise(str(row["tj"])), tuple(ja for ja, _ in pairs)),
                    Passage("en", normalise(str(row["te"])), tuple(en for _, en in pairs)),
                )


def windows(text: str, language: str) -> Iterator[str]:
    """Every 25-character (ja) or 12-word (en) window, spaces and case aside."""
    if language == "ja":
        plain = re.sub(r"\s+", "", normalise(text))
        for start in range(len(plain) - WINDOW_CHARACTERS + 1):
            yield plain[start : start + WINDOW_CHARACTERS]
    else:
        words = re.findall(r"\w+", normalise(text).lower())
        for start in range(len(words) - WINDOW_WORDS + 1):
            yield " ".join(words[start : start + WINDOW_WORDS])


class LeakFilter:
    """Knows the titles and windows of the evaluation texts; `overlaps` says whether a training text shares one."""

    def __init__(self, evaluation: Iterable[Question]) -> None:
        self._titles: set[str] = set()
        self._windows: set[str] = set()
        self.dropped = 0
        seen: set[str] = set()
        for row in evaluation:
            self._titles.add(_plain_title(row.title))
            if row.context not in seen:
                seen.add(row.context)
                self._windows.update(windows(row.context, row.language))

    def overlaps(self, *, title: str, text: str, language: str) -> bool:
        """True (and counted in `dropped`) where the title or any window is also in the evaluation data."""
        leaked = _plain_title(title) in self._titles or any(window in self._windows for window in windows(text, language))
        self.dropped += leaked
        return leaked


def _plain_title(title: str) -> str:
    return re.sub(r"[\s_]+", " ", normalise(title)).strip().lower()


def read_evaluation(folder: Path) -> list[Question]:
    """JSQuAD valid and XQuAD-en: what must not be trained on."""
    return [*read_jsquad(folder / EVALUATION_FILES[0]), *read_questions(folder / EVALUATION_FILES[1], "en")]


@dataclass(frozen=True)
class Corpus:
    """What the language model is trained on, cleaned; `hashes` of the files read and the number of `dropped` texts."""

    questions: tuple[Question, ...]
    passages: tuple[Passage, ...]
    evaluation: tuple[Question, ...]
    hashes: dict[str, str]
    dropped: int


def read_corpus(folder: Path, *, articles: int) -> Corpus:
    """Read the training files of `folder`, at most `articles` bilingual articles, without what overlaps the evaluation."""
    evaluation = read_evaluation(folder)
    leaks = LeakFilter(evaluation)
    clean: dict[str, bool] = {}

    def usable(title: str, text: str, language: str) -> bool:
        if text not in clean:
            clean[text] = not leaks.overlaps(title=title, text=text, language=language)
        return clean[text]

    questions = [
        row
        for path, language in ((folder / TRAINING_FILES[0], "ja"), (folder / TRAINING_FILES[1], "en"))
        for row in read_questions(path, language)
        if usable(row.title, row.context, row.language)
    ]
    passages = [
        passage for pair in read_passages(folder / TRAINING_FILES[2], articles) for passage in pair if usable(passage.title, passage.text, passage.language)
    ]
    contexts = {row.context: row for row in questions}
    passages += [Passage(row.language, row.title, split_sentences(context)) for context, row in contexts.items()]
    hashes = {name: hash_file(folder / name) for name in (*TRAINING_FILES, *EVALUATION_FILES)}
    return Corpus(tuple(questions), tuple(passages), tuple(evaluation), hashes, leaks.dropped)

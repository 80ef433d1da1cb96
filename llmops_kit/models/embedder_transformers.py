"""Embedders of sentence-transformers: any such model on this disk, with the prefixes it was trained with.

kit.models.add("ours", base="ruri-v3-30m", model="folder/of/our-ruri")
kit.models.embedder("ours").encode_query("休暇の申請")
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from llmops_kit.models.catalogue import ModelEntry
from llmops_kit.models.embedder import Floats, TextEmbedder, group_texts, replace_surrogates
from llmops_kit.models.sentence_loading import limit_threads, load_sentence_model, name_revision, refuse, shorten

_BATCH = 32
_BATCH_CHARACTERS = 32_768  # a batch is as wide as its longest text, so long ones go in smaller company
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")  # the names sentence-transformers looks for, in its order


class TransformersEmbedder(TextEmbedder):
    """A sentence-transformers model in `folder`, in float32. Any number of threads may share it; a question goes before the next batch of passages.

    A prefix is the entry's, else the model's own prompt, else nothing. A text longer than the model reads is cut at its end.

    Raises:
        ModelRefused: the folder is not safe to load, lacks weights, gives other dimensions than the entry says or no numbers.
    """

    def __init__(self, entry: ModelEntry, folder: Path, *, commit: str | None = None) -> None:
        from sentence_transformers import SentenceTransformer

        self._entry, self.folder = entry, folder
        self._model = load_sentence_model(entry, folder, SentenceTransformer)
        shorten(entry, self._model)
        self._turns = _Turns()
        own = self._model.prompts
        self._query_prompt = entry.query_prefix if entry.query_prefix is not None else own.get("query") or ""
        named = next((own[name] for name in _DOCUMENT_PROMPTS if own.get(name)), None) or ""
        self._document_prompt = entry.document_prefix if entry.document_prefix is not None else named
        self._revision = name_revision(entry, folder, commit)
        self._dimensions = int(self._model.encode(["1"], prompt="", show_progress_bar=False).shape[1])
        if entry.dimensions not in (None, self._dimensions):
            raise refuse(
                entry,
                en=f"its vectors have {self._dimensions} dimensions, its entry says {entry.dimensions}",
                ja=f"ベクトルは{self._dimensions}次元ですが、エントリのdimensionsは{entry.dimensions}です",
            )

    @property
    def id(self) -> str:
        """The name in the catalogue."""
        return self._entry.id

    @property
    def revision(self) -> str:
        """The commit, or a fingerprint of the files; with a mark where the entry has a passage prefix or length of its own."""
        return self._revision

    @property
    def dimensions(self) -> int:
        """The length of a vector."""
        return self._dimensions

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages it knows, as its entry says; empty: many."""
        return self._entry.languages

    def encode(self, texts: Sequence[str]) -> Floats:
        """One row of length 1 per passage, put behind the passage prefix; zeros where a text is blank."""
        return self._embed(texts, self._document_prompt, urgent=False)

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """One row of length 1 per question, put behind the query prefix; zeros where a text is blank."""
        return self._embed(texts, self._query_prompt, urgent=True)

    def _embed(self, texts: Sequence[str], prompt: str, *, urgent: bool) -> Floats:
        clean = [replace_surrogates(text) for text in texts]
        sizes = [len(text) for text in clean]
        longest_first = sorted((place for place, text in enumerate(clean) if text.strip()), key=lambda place: -sizes[place])
        rows = np.zeros((len(clean), self._dimensions), np.float32)
        batch = self._entry.batch_size or _BATCH
        for group in group_texts(sizes, longest_first, texts=batch, characters=_BATCH_CHARACTERS):
            with self._turns.take(urgent=urgent):
                limit_threads()
                rows[group] = self._model.encode(
                    [clean[place] for place in group], prompt=prompt, batch_size=len(group), show_progress_bar=False, normalize_embeddings=True
                )
        if not np.isfinite(rows).all():
            raise refuse(self._entry, en="its vectors hold values that are not finite (NaN)", ja="ベクトルに有限でない値（NaN）があります")
        return rows

    def __repr__(self) -> str:
        return f"TransformersEmbedder({self.id!r}, dimensions={self.dimensions}, revision={self.revision!r})"


class _Turns:
    """One at a time, and whoever is urgent before the next of those who are not, however many of these wait."""

    def __init__(self) -> None:
        self._patient, self._next, self._work = threading.Lock(), threading.Lock(), threading.Lock()

    @contextmanager
    def take(self, *, urgent: bool) -> Iterator[None]:
        if urgent:
            with self._pass():
                yield
        else:
            with self._patient, self._pass():
                yield

    @contextmanager
    def _pass(self) -> Iterator[None]:
        with self._next:
            self._work.acquire()
        try:
            yield
        finally:
            self._work.release()

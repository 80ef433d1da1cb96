"""Rerankers: cross-encoders of sentence-transformers, which read a question and a passage together and score how well they fit.

kit.models.reranker("japanese-reranker-xsmall-v2").score("休暇の申請期限", ["3営業日前までに…", "経費は…"])
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llmops_kit.models.catalogue import ModelEntry
from llmops_kit.models.embedder import Floats, group_texts, replace_surrogates
from llmops_kit.models.embedder_files import MODULES, find_fault, find_missing_weights
from llmops_kit.models.sentence_loading import limit_threads, load_sentence_model, name_revision, refuse, shorten

_BATCH = 32
_BATCH_CHARACTERS = 32_768  # a batch is as wide as its longest pair


class CrossEncoderReranker:
    """A cross-encoder with one score per pair in `folder`, in float32. Any number of threads may share it.

    The score is what the model's own activation makes of its output, for most a number from 0 to 1. A passage longer
    than the model reads is cut at its end.

    Raises:
        ModelRefused: the folder is not safe to load, lacks weights, or gives more than one score.
    """

    def __init__(self, entry: ModelEntry, folder: Path, *, commit: str | None = None) -> None:
        from sentence_transformers import CrossEncoder

        fault = find_fault(folder) if (folder / MODULES).is_file() else find_missing_weights(folder)
        if fault is not None:
            raise refuse(entry, en=fault.en, ja=fault.ja)
        self._entry, self.folder = entry, folder
        self._model = load_sentence_model(entry, folder, CrossEncoder)
        shorten(entry, self._model)
        self._lock = threading.Lock()
        self._revision = name_revision(entry, folder, commit)
        labels = int(self._model.num_labels)
        if labels != 1:
            raise refuse(entry, en=f"it gives {labels} values for a pair, not one score", ja=f"1組に対して{labels}個の値を返すため、スコアとして使えません")

    @property
    def id(self) -> str:
        """The name in the catalogue."""
        return self._entry.id

    @property
    def revision(self) -> str:
        """The commit, or a fingerprint of the files."""
        return self._revision

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages it knows, as its entry says; empty: many."""
        return self._entry.languages

    def score(self, query: str, texts: Sequence[str]) -> Floats:
        """One number per text, greater for a better answer to `query`. Compare them within one query only.

        Raises:
            ModelRefused: a score is not a finite number.
        """
        question, clean = replace_surrogates(query), [replace_surrogates(text) for text in texts]
        sizes = [len(question) + len(text) for text in clean]
        longest_first = sorted(range(len(clean)), key=lambda place: -sizes[place])
        scores = np.zeros(len(clean), np.float32)
        for group in group_texts(sizes, longest_first, texts=self._entry.batch_size or _BATCH, characters=_BATCH_CHARACTERS):
            with self._lock:
                limit_threads()
                scores[group] = self._model.predict([(question, clean[place]) for place in group], batch_size=len(group), show_progress_bar=False)
        if not np.isfinite(scores).all():
            raise refuse(self._entry, en="its scores hold values that are not finite (NaN)", ja="スコアに有限でない値（NaN）があります")
        return scores

    def __repr__(self) -> str:
        return f"CrossEncoderReranker({self.id!r}, revision={self.revision!r})"

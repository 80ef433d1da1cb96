"""starter-embed in numpy: the vector of a text is the mean of its tokens' vectors, at length 1. Needs no torch.

    embedder = StarterEmbedder(folder)
    embedder.encode(["有給休暇の申請", "How to request paid leave"])     # float32, one row per text

The folder is also one for `SentenceTransformer(folder)`: a StaticEmbedding (token codes in 8 bits, one scale per token)
and Normalize. Both ways give the same vectors up to float32 rounding. Trained by `llmops_kit.starter.embedding`.
"""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from llmops_kit.models.checksums import refuse_weights, verify_folder

Floats = NDArray[np.float32]
WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"
CODES, SCALES = "embeddings", "weights"  # the names sentence-transformers multiplies: row of codes times its scale
PIECE_CHARACTERS = 8192  # a longer text is read piece by piece, so that a book needs no more memory than a page
BATCH_CHARACTERS = 262_144  # texts tokenized together
_BOUNDARY = re.compile(r"[\s。、，．！？]")  # no token reaches across one of these


class TextEmbedder(Embeddings):
    """What every embedder can do, given `encode` and `encode_queries`; also an embedding model of LangChain."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> Floats:
        """One row of length 1 per passage."""

    @abstractmethod
    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """One row of length 1 per question."""

    def encode_query(self, text: str) -> Floats:
        """The vector of one question, shape (dimensions,)."""
        vector: Floats = self.encode_queries([text])[0]
        return vector

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The vectors of passages as plain lists."""
        vectors: list[list[float]] = self.encode(texts).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """The vector of one question as a plain list."""
        vector: list[float] = self.encode_query(text).tolist()
        return vector


class StarterEmbedder(TextEmbedder):
    """Embeds Japanese and English texts in one space, questions and passages alike. Any number of threads may share it.

    `id` is its name in the catalogue (default: that of its folder).

    Raises:
        ModelRefused: a file in `folder` is absent or is not the one that was shipped; the checksum is named.
    """

    languages = ("ja", "en")

    def __init__(self, folder: Path | str, *, id: str | None = None) -> None:
        self.folder = Path(folder)
        self._id = id or self.folder.name
        checksums = verify_folder(self.folder, needed=(WEIGHTS, TOKENIZER))
        try:
            arrays = load_file(self.folder / WEIGHTS)
            self._codes, self._scales = arrays[CODES], arrays[SCALES].astype(np.float32)
            self._tokenizer = Tokenizer.from_file(str(self.folder / TOKENIZER))
        except (SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise refuse_weights(self.folder, en=f"{type(error).__name__}: {error}", ja=f"{type(error).__name__}：{error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._revision = checksums[WEIGHTS][:12]
        tokens = self._tokenizer.get_vocab_size()
        if self._codes.ndim != 2 or self._scales.shape != (len(self._codes),) or len(self._codes) != tokens:
            raise refuse_weights(
                self.folder,
                en=f"it has {tokens} tokens and vectors of the shape {self._codes.shape}",
                ja=f"トークンは{tokens}個ですが、ベクトルの形は{self._codes.shape}です",
            )

    @property
    def id(self) -> str:
        """The name in the catalogue, `starter-embed`."""
        return self._id

    @property
    def revision(self) -> str:
        """The checksum of the weights, shortened to 12 digits."""
        return self._revision

    @property
    def dimensions(self) -> int:
        """The length of a vector."""
        return int(self._codes.shape[1])

    def encode(self, texts: Sequence[str]) -> Floats:
        """One row of length 1 per text; zeros where a text has no letter, digit or symbol."""
        sums = np.zeros((len(texts), self.dimensions), np.float32)
        for rows, pieces in _batches(texts):
            for row, encoding in zip(rows, self._tokenizer.encode_batch_fast(pieces, add_special_tokens=False), strict=True):
                ids = np.array(encoding.ids, np.int64)
                sums[row] += self._scales[ids] @ self._codes[ids].astype(np.float32)
        norms = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), np.float32(1e-12))
        vectors: Floats = (sums / norms).astype(np.float32, copy=False)
        return vectors

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """As `encode`: questions and passages are embedded alike."""
        return self.encode(texts)

    def __repr__(self) -> str:
        return f"StarterEmbedder({self.id!r}, dimensions={self.dimensions}, revision={self.revision!r})"


def replace_surrogates(text: str) -> str:
    """The text with `?` for each half of a surrogate pair, which is no character and cannot be encoded."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def group_texts(sizes: Sequence[int], order: Sequence[int], *, texts: int, characters: int) -> Iterator[list[int]]:
    """The places in `order` in groups of at most `texts`, whose `sizes` add up to `characters` at most; a longer text stands alone."""
    group: list[int] = []
    total = 0
    for place in order:
        if group and (len(group) >= texts or total + sizes[place] > characters):
            yield group
            group, total = [], 0
        group.append(place)
        total += sizes[place]
    if group:
        yield group


def _pieces(text: str) -> Iterator[str]:
    """The text in parts of at most `PIECE_CHARACTERS`, cut where no token is; in the middle only of a text without any such place."""
    text = replace_surrogates(text)
    first = 0
    while len(text) - first > PIECE_CHARACTERS:
        last = first + PIECE_CHARACTERS
        tail = text[first + PIECE_CHARACTERS // 2 : last]
        cut = max((place.end() for place in _BOUNDARY.finditer(tail)), default=len(tail))
        last = first + PIECE_CHARACTERS // 2 + cut
        yield text[first:last]
        first = last
    yield text[first:]


def _batches(texts: Iterable[str]) -> Iterator[tuple[list[int], list[str]]]:
    """(row of each piece, pieces), a bounded number of characters at a time."""
    rows: list[int] = []
    pieces: list[str] = []
    size = 0
    for row, text in enumerate(texts):
        for piece in _pieces(text):
            rows.append(row)
            pieces.append(piece)
            size += len(piece) + 32
            if size >= BATCH_CHARACTERS:
                yield rows, pieces
                rows, pieces, size = [], [], 0
    if pieces:
        yield rows, pieces

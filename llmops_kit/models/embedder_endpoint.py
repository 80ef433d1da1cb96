"""Embedders behind an OpenAI-compatible address: OpenAI itself, vLLM, Ollama, llama.cpp, text-embeddings-inference and others.

Lines, retries, time-outs and keys are those of chat models behind an address (`endpoint_call`).
"""

from __future__ import annotations

import base64
import functools
import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import SecretStr

from llmops_kit.models.catalogue import ModelEntry
from llmops_kit.models.embedder import Floats, TextEmbedder, group_texts, replace_surrogates
from llmops_kit.models.endpoint_call import Caller, Progress, read_key
from llmops_kit.models.sentence_loading import mark_options

if TYPE_CHECKING:
    from llmops_kit.models.endpoint_faults import Server

MOST_TEXTS = 256  # in one request; OpenAI takes 2048, and 300,000 tokens
MOST_CHARACTERS = 100_000  # in one request; a Japanese character is about one token, rare ones are up to three
_AT_A_TIME = 4  # requests of one call; the line of the server's places limits all calls together
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)


class EndpointEmbedder(TextEmbedder):
    """A catalogue entry whose vectors come from a model server. Any number of threads may share it.

    `api_key` is one person's key and stays in this object; without it the environment variable the entry names is read
    at the moment of the call. Blank texts are not sent, as OpenAI refuses them.
    """

    def __init__(self, entry: ModelEntry, caller: Caller, *, api_key: str | None = None) -> None:
        self._entry, self._caller = entry, caller
        self._key = SecretStr(api_key) if api_key else None
        self._dimensions = entry.dimensions
        self._lock = threading.Lock()

    @property
    def id(self) -> str:
        """The name in the catalogue."""
        return self._entry.id

    @property
    def revision(self) -> str:
        """The name the server knows and the dimensions, which is all that can be known; with a mark where the entry has a passage prefix."""
        return f"{self._entry.model}@{self.dimensions}{mark_options(self._entry)}"

    @property
    def dimensions(self) -> int:
        """The length of a vector: the entry's, else that of a first one, asked of the server once. Raises as `encode`."""
        if self._dimensions is None:
            self._request(["1"])
        return self._dimensions or 0

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages it knows, as its entry says; empty: many."""
        return self._entry.languages

    def encode(self, texts: Sequence[str]) -> Floats:
        """One row of length 1 per passage, put behind the passage prefix; zeros where a text is blank.

        Raises:
            EndpointError: the server is down, refuses, or its vectors are too few, of another length or not numbers.
            ModelNotReady: it needs a key.
            Busy: its turn did not come in time.
        """
        return self._embed(texts, self._entry.document_prefix or "")

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """One row of length 1 per question, put behind the query prefix; zeros where a text is blank. Raises as `encode`."""
        return self._embed(texts, self._entry.query_prefix or "")

    def _embed(self, texts: Sequence[str], prefix: str) -> Floats:
        clean = {place: prefix + replace_surrogates(text) for place, text in enumerate(texts) if text.strip()}
        sizes = [len(clean.get(place, "")) for place in range(len(texts))]
        most = self._entry.batch_size or MOST_TEXTS
        groups = list(group_texts(sizes, list(clean), texts=most, characters=MOST_CHARACTERS))
        requests = [[clean[place] for place in group] for group in groups]
        rows = np.zeros((len(texts), 0 if groups and self._dimensions is None else self.dimensions), np.float32)
        for group, vectors in zip(groups, self._request_all(requests), strict=True):
            if rows.shape[1] == 0:
                rows = np.zeros((len(texts), vectors.shape[1]), np.float32)
            rows[group] = vectors
        return rows

    def _request_all(self, requests: Sequence[list[str]]) -> Iterator[Floats]:
        if not requests:
            return
        yield self._request(requests[0])  # alone: it says how long the vectors are, and whether the server answers at all
        pool = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="embedding")
        try:
            yield from pool.map(self._request, requests[1:])
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _request(self, texts: list[str]) -> Floats:
        """The vectors of the texts of one request."""
        key = read_key(self._entry, self._key.get_secret_value() if self._key is not None else None)
        answers = [answer for answer in self._caller.send(functools.partial(self._ask, texts, key), key, _note) if answer is not None]
        fault, server = None, self._caller.server(key, self._entry.addresses[0])
        try:
            vectors = _read_vectors(json.loads(answers[-1]), len(texts), server)
        except _UNREADABLE:
            fault = server.fault("it sent nothing that can be read as vectors (empty, or broken JSON)", "ベクトルとして読めるデータが届きませんでした")
        if fault is not None:
            raise fault
        self._check_length(vectors.shape[1], server)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        rows: Floats = (vectors / np.maximum(norms, np.float32(1e-12))).astype(np.float32, copy=False)
        return rows

    def _check_length(self, length: int, server: Server) -> None:
        with self._lock:
            if self._dimensions is None:
                self._dimensions = length
            wanted = self._dimensions
        if length != wanted:
            raise server.fault(
                f"its vectors have {length} dimensions instead of {wanted}; correct dimensions in the entry, or ask for them with request_dimensions",
                f"ベクトルが{wanted}次元ではなく{length}次元です。エントリのdimensionsを直すか、request_dimensionsで指定してください",
            )

    def _ask(self, texts: list[str], key: str, address: str) -> Iterator[bytes]:
        """The body of the server's answer; sent when the first item is taken."""
        import openai

        client = openai.OpenAI(
            base_url=address,
            api_key=key,
            max_retries=0,  # see endpoint_retry
            http_client=self._caller.wire.client,
            timeout=self._caller.wire.client.timeout,
        )
        shape: dict[str, Any] = {"dimensions": self._entry.dimensions} if self._entry.request_dimensions else {}
        answer = client.embeddings.with_raw_response.create(model=self._entry.model, input=texts, encoding_format="float", **shape)
        yield answer.content

    def __repr__(self) -> str:
        return f"EndpointEmbedder({self.id!r}, model={self._entry.model!r})"


def _note(answer: bytes, progress: Progress) -> None:
    progress.finished = progress.shown = True


def _read_vectors(answer: Any, count: int, server: Server) -> Floats:
    """The vectors of an answer in the order of the texts, whichever order they came in.

    Raises:
        EndpointError: there are not `count` of one length, or one is not all finite numbers.
        ValueError, KeyError, TypeError, AttributeError: the answer is none.
    """
    items = answer["data"]
    places = [item.get("index", number) for number, item in enumerate(items)]
    if sorted(places) != list(range(count)):
        raise server.fault(f"it sent {len(items)} vectors for {count} texts", f"{count}件の文章に対して{len(items)}件のベクトルが返りました")
    rows: list[Floats] = [np.empty(0, np.float32)] * count
    for place, item in zip(places, items, strict=True):
        rows[place] = _read_vector(item["embedding"])
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1 or lengths[0] == 0:
        raise server.fault(f"its vectors have different lengths ({lengths})", f"ベクトルの長さが揃っていません（{lengths}）")
    vectors: Floats = np.stack(rows)
    if not np.isfinite(vectors).all():
        raise server.fault("its vectors hold values that are not finite (NaN)", "ベクトルに有限でない値（NaN）があります")
    return vectors


def _read_vector(given: Any) -> Floats:
    """A vector as numbers, or as the base64 of little-endian float32, which some servers send unasked."""
    if isinstance(given, str):
        return np.frombuffer(base64.b64decode(given, validate=True), "<f4").astype(np.float32)
    vector: Floats = np.array([float("nan") if number is None else number for number in given], np.float32)
    if vector.ndim != 1:
        raise ValueError(f"a vector of the shape {vector.shape}")
    return vector

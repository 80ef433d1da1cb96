"""Documents: take files in, see how well they were read, search them, ask them, and see why an answer came out as it did.

kit.documents.add("handbook/")
kit.documents.ask("有給休暇は何日もらえますか。")
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmops_kit.access import LOCAL
from llmops_kit.documents.collections import DEFAULT, Collections, Participants, names_of
from llmops_kit.documents.intake import Intake
from llmops_kit.documents.library import Library, read_date
from llmops_kit.documents.retrieval import Retrieval
from llmops_kit.errors import InvalidValue
from llmops_kit.types import Collection, Document, Run, Source

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.documents.evaluation import Report
    from llmops_kit.documents.explanation import Explanation
    from llmops_kit.documents.index import Findability, Hit
    from llmops_kit.documents.ingestion import Step
    from llmops_kit.documents.questions import Question
    from llmops_kit.documents.reading.records import Rendered
    from llmops_kit.models import Models
    from llmops_kit.playground import Playground
    from llmops_kit.progress import Progress
    from llmops_kit.settings import Settings
    from llmops_kit.store import Store

Mode = Literal["hybrid", "lexical", "dense"]
MODES: tuple[Mode, ...] = ("hybrid", "lexical", "dense")
Paths = str | Path | Sequence[str | Path]


class Documents:
    """A workspace's documents. Everything is done in the name of `participant`, who finds their own collections and shared ones."""

    def __init__(self, store: Store, models: Models, playground: Playground, settings: Settings) -> None:
        self.settings = settings
        self.store = store
        self.models = models
        self.playground = playground
        self.shelves = Collections(store, embedder=settings.embedder)
        self.retrieval = Retrieval(store, models, settings)
        self._intake = Intake(store, models, settings, self.shelves, self.retrieval)
        self._library = Library(store, self.shelves, self.retrieval.files)

    # --- taking in

    def add(
        self,
        paths: Paths,
        *,
        collection: str = DEFAULT,
        reader: str | None = None,
        encoding: str | None = None,
        ocr: bool = False,
        password: str | None = None,
        tags: Sequence[str] = (),
        dated: str | None = None,
        review: bool = False,
        participant: Participants = LOCAL,
        progress: Progress | Literal[False] | None = None,
        cancel: threading.Event | None = None,
    ) -> pd.DataFrame:
        """Take in files, folders or ZIPs, and give a table with one row per file: its state and, where it is not ready, why.

        Unchanged files are left out, changed ones take the place of their former selves. `review` stops after reading, for a
        look at `pages(id)`; `index(ids)` goes on. `reader` is `pdfium` or `pypdf`; `encoding` that of the text files; `ocr` reads
        pages without text by tesseract. `tags` and `dated` (YYYY-MM-DD) are what `search` can be narrowed by. Setting `cancel`,
        or an interrupt, keeps what is ready.

        Raises:
            InputError: a path is not there, or the documents would take more room than they may.
            AccessDenied: the collection is somebody else's.
        """
        asked = {"reader": reader, "encoding": encoding, "ocr": ocr}
        told: dict[str, Any] = {"tags": tuple(tags), "dated": read_date("dated", dated)}
        how: dict[str, Any] = {"progress": progress, "cancel": cancel, "password": password}
        return self._intake.add(paths, collection, participant, review=review, options=asked, told=told, **how)

    def add_text(self, text: str, *, name: str, collection: str = DEFAULT, participant: Participants = LOCAL, tags: Sequence[str] = ()) -> pd.DataFrame:
        """Take in a pasted text under a name; as `add`."""
        return self.add_texts({name: text}, collection=collection, participant=participant, tags=tags)

    def add_texts(self, texts: Mapping[str, str], *, collection: str = DEFAULT, participant: Participants = LOCAL, tags: Sequence[str] = ()) -> pd.DataFrame:
        """Take in texts by name, thousands at once; as `add`. A text of a name that is there takes its place."""
        return self._intake.add_texts(texts, collection, participant, tags=tuple(tags))

    def take_in(self, paths: Paths, *, collection: str, participant: Participants, **options: Any) -> Iterator[Step]:
        """As `add`, but giving a `Step` whenever a file is done; for faces that draw their own progress."""
        return self._intake.take_in(paths, collection, participant, **options)

    def index(self, ids: str | Sequence[str], *, participant: Participants = LOCAL) -> pd.DataFrame:
        """Make documents that were read for a look searchable; their table. Raises: UnknownName, AccessDenied."""
        return self._intake.index(_listed(ids), participant)

    def reread(self, id: str, *, participant: Participants = LOCAL, **options: Any) -> pd.DataFrame:
        """Read a document again with another `reader`, `encoding`, `ocr` or `password`; what is searched stays until the new reading is there."""
        return self._intake.reread(id, participant, options)

    def drop_pages(self, id: str, numbers: Sequence[int], *, participant: Participants = LOCAL) -> pd.DataFrame:
        """Leave exactly these pages of a document out of the search (none: take all back in), and index it anew."""
        return self._intake.drop_pages(id, numbers, participant)

    def resume(self) -> Iterator[Step]:
        """Go on with what an interrupted process left waiting, whoever it belongs to."""
        return self._intake.resume()

    def rebuild(
        self,
        collection: str = DEFAULT,
        *,
        embedder: str | None = None,
        chunk_size: int | None = None,
        participant: Participants = LOCAL,
        progress: Progress | Literal[False] | None = None,
    ) -> Collection:
        """Cut and embed a collection anew from the pages it keeps, with another embedder or chunk size (characters) where given.

        The old chunks answer until the new ones take their place in one transaction. Raises: UnknownName, AccessDenied, InvalidValue.
        """
        return self._intake.rebuild(collection, participant, embedder=embedder, chunk_size=chunk_size, progress=progress)

    # --- what there is

    def table(self, collection: str | None = None, *, participant: Participants = LOCAL) -> pd.DataFrame:
        """One row per document of a collection, or of all collections."""
        return self._library.table(collection, participant)

    def collections(self, *, participant: Participants = LOCAL) -> pd.DataFrame:
        """One row per collection: whose, how many documents and chunks, by which embedder."""
        return self._library.collections(participant)

    def pages(self, id: str, *, participant: Participants = LOCAL) -> pd.DataFrame:
        """The quality report of a document, one row per page."""
        return self._library.pages(id, participant)

    def text(self, id: str, *, participant: Participants = LOCAL) -> str:
        """The text of a document as it is searched; offsets of sources point into it."""
        return self._library.text(id, participant)

    def page_image(
        self, id: str, page: int, *, start: int | None = None, end: int | None = None, width_px: int = 900, participant: Participants = LOCAL
    ) -> Rendered | None:
        """A PDF page as a picture, with the boxes of the text from `start` to `end` (offsets in the document); None for other kinds."""
        document, _ = self.shelves.document(id, participant)
        return self.retrieval.page_image(document, page, start, end, width_px)

    def rename(self, id: str, name: str, *, participant: Participants = LOCAL) -> Document:
        """Give a document another name."""
        return self._library.rename(id, name, participant)

    def tag(self, id: str, tags: Sequence[str], *, dated: str | None = None, participant: Participants = LOCAL) -> Document:
        """Set the tags of a document, and its date where given."""
        return self._library.tag(id, tags, read_date("dated", dated), participant)

    def remove(self, id: str, *, participant: Participants = LOCAL) -> None:
        """Remove a document with its file, pages, chunks and index entries. Raises: UnknownName, AccessDenied."""
        self._intake.remove(id, participant)

    def rename_collection(self, collection: str, name: str, *, participant: Participants = LOCAL) -> Collection:
        """Give a collection another name."""
        return self.shelves.rename(self.shelves.own(collection, participant), name)

    def share(self, collection: str = DEFAULT, *, shared: bool = True, participant: Participants = LOCAL) -> Collection:
        """Let everybody in the workspace search a collection, or no longer."""
        return self._library.share(collection, shared, participant)

    def remove_collection(self, collection: str, *, participant: Participants = LOCAL) -> None:
        """Remove a collection with all its documents."""
        self._intake.remove_collection(collection, participant)

    def export(self, collection: str = DEFAULT, path: str | Path = "documents.zip", *, participant: Participants = LOCAL) -> Path:
        """Write a ZIP of the original files, the list of documents (CSV for Excel) and the chunks (JSONL); give its path."""
        return self._library.export(collection, Path(path), participant)

    # --- searching and asking

    def search(
        self,
        query: str,
        *,
        collection: str = DEFAULT,
        k: int = 5,
        mode: Mode = "hybrid",
        file: str | None = None,
        tags: Sequence[str] = (),
        since: str | None = None,
        until: str | None = None,
        reranker: str | None = None,
        participant: Participants = LOCAL,
    ) -> list[Source]:
        """The `k` passages that answer `query` best, best first.

        `mode`: by words (`lexical`), by meaning (`dense`), or both fused. `file` is a part of the file name, `tags` must all
        be there, `since` and `until` (YYYY-MM-DD) bound the document's date. `reranker` is a cross-encoder of the catalogue.

        Raises:
            UnknownName: the collection or reranker is not there.
            IndexRebuilding: the index is being made anew; ask again in a moment.
        """
        found = self.shelves.get(collection, participant)
        hits = self.find_hits(found, query, k=k, mode=mode, file=file, tags=tags, since=since, until=until, reranker=reranker)
        return self.retrieval.sources_of(hits)

    def find_hits(
        self,
        collection: Collection,
        query: str,
        *,
        k: int = 5,
        mode: Mode = "hybrid",
        file: str | None = None,
        tags: Sequence[str] = (),
        since: str | None = None,
        until: str | None = None,
        reranker: str | None = None,
    ) -> list[Hit]:
        """As `search`, with the ranks and scores of both legs for each chunk."""
        if mode not in MODES:
            raise InvalidValue(name="mode", value=mode, allowed=", ".join(MODES))
        if not 1 <= k <= 200:
            raise InvalidValue(name="k", value=k, allowed="1–200")
        narrowed = {"file": file, "tags": tuple(tags), "since": read_date("since", since), "until": read_date("until", until)}
        return self.retrieval.search(collection, query, k=k, mode=mode, narrowed=narrowed, reranker=reranker)

    def ask(self, question: str, **asked: Any) -> Run:
        """Ask the documents and give the finished Run, with `.sources`, `.answer` and its citations. Keywords and errors are those of `stream`."""
        growing = self.stream(question, **asked)
        last = next(growing)
        for last in growing:  # noqa: B007 - the last one is what is wanted
            pass
        return last

    def stream(
        self,
        question: str,
        *,
        model: str = "starter-reader",
        collection: str = DEFAULT,
        k: int = 5,
        mode: Mode = "hybrid",
        history: Sequence[tuple[str, str]] = (),
        participant: Participants = LOCAL,
        app: str = "documents",
        api_key: str | None = None,
        run_id: str | None = None,
        file: str | None = None,
        tags: Sequence[str] = (),
        since: str | None = None,
        until: str | None = None,
        reranker: str | None = None,
        **params: Any,
    ) -> Iterator[Run]:
        """Ask the documents and give the Run again and again while its answer grows; the last one is finished and stored.

        The question is condensed with `history`, pairs of (question, answer), where it does not stand by itself. The Run's flags
        say where to be careful: `not_in_documents`, `low_relevance`, `ungrounded`, `instructions_in_sources`.

        Raises:
            KitError: as `search`, and as `kit.playground.stream`.
        """
        from llmops_kit.documents.answering import Answering

        found = self.shelves.get(collection, participant)
        narrowed: dict[str, Any] = {"mode": mode, "file": file, "tags": tags, "since": since, "until": until, "reranker": reranker}
        how: dict[str, Any] = {"participant": names_of(participant)[0], "app": app, "api_key": api_key, "run_id": run_id, **params}
        yield from Answering(self).stream(question, found, model=model, k=k, history=history, narrowed=narrowed, **how)

    # --- why

    def explain(self, question: str, passage: str, *, collection: str = DEFAULT, k: int = 5, participant: Participants = LOCAL) -> Explanation:
        """Follow a passage from the file to the prompt for `question`: where it was lost, and what would change that."""
        from llmops_kit.documents.explanation import explain

        return explain(self, self.shelves.get(collection, participant), question, passage, k=k)

    def findable(self, word: str, *, collection: str = DEFAULT, participant: Participants = LOCAL) -> Findability:
        """Which terms a word becomes, how many chunks have each of them and all of them, and the first of these."""
        return self.retrieval.findable(self.shelves.get(collection, participant), word)

    def evaluate(self, questions: Sequence[Question] | Any, *, collection: str = DEFAULT, participant: Participants = LOCAL, **options: Any) -> Report:
        """Measure the search (and with `model=` the answers) on questions with known passages: hit@k, MRR, nDCG, with intervals."""
        from llmops_kit.documents.evaluation import evaluate

        return evaluate(self, questions, collection=collection, participant=participant, **options)

    def make_questions(self, *, collection: str = DEFAULT, participant: Participants = LOCAL, **options: Any) -> tuple[Question, ...]:
        """Questions made from the documents, with passages and answers, to be looked over: by rule, or by the chat model `model`."""
        from llmops_kit.documents.generation import generate

        return generate(self, collection, participant=participant, **options)

    def sweep(self, questions: Sequence[Question] | Any, *, collection: str = DEFAULT, participant: Participants = LOCAL, **options: Any) -> pd.DataFrame:
        """Measure the search with several chunk sizes, modes, k and embedders, without touching the collection."""
        from llmops_kit.documents.sweep import sweep

        return sweep(self, questions, collection=collection, participant=participant, **options)

    def start(self) -> None:
        """For the app: check the index and go on with what waits, in the background. A fault is in the log, and said where somebody asks."""
        if self.store.count(Collection):
            threading.Thread(target=self._intake.catch_up, name="documents", daemon=True).start()

    def close(self) -> None:
        """Stop what runs and give the index back. Nothing is lost: what waits goes on with `resume`."""
        self._intake.close()
        self.retrieval.close()


def _listed(ids: str | Sequence[str]) -> list[str]:
    return [ids] if isinstance(ids, str) else list(ids)

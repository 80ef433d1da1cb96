"""Why a passage did or did not reach the model: followed from the file to the prompt, step by step, with what would change it.

kit.documents.explain("有給休暇は何日ですか。", "年次有給休暇は10日付与します。")         # a table in a notebook, stage by stage
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from llmops_kit.documents.answering import Answering, Given
from llmops_kit.documents.conversation import Condensed, content_words
from llmops_kit.documents.explanation_texts import NAMES, Sentence, tell
from llmops_kit.documents.injection import escape_markdown
from llmops_kit.documents.places import Locator, Place, squash
from llmops_kit.documents.questions import Question
from llmops_kit.documents.windows import DocumentText
from llmops_kit.errors import InvalidValue
from llmops_kit.models.units import language_of
from llmops_kit.types import Chunk, Collection, Document, Page

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.documents import Documents
    from llmops_kit.documents.index import ChunkRank, Hit

CLOSE = 0.6                     # similarity (difflib, 0 to 1) from which a text is shown as the closest to the passage
_CANDIDATES = 20                # chunks like the passage whose documents are looked through
_SHOWN = 60                     # characters of a text that a sentence repeats
_LISTED = 8                     # terms and words that are listed
_UNREAD = 3                     # unread documents that are named
_MOST_HITS = 50                 # the largest k that is advised
_FAR = 10**9                    # a rank behind all others

@dataclass(frozen=True)
class Stage:
    """One step on the way: its `name` (a key of `NAMES`), whether the passage got through (None: does not matter here), and why."""

    name: str
    ok: bool | None
    told: Sentence
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Explanation:
    """The way of `passage` to the prompt for `question`: its `stages` as far as it got, and `advice` on what would change that.

    `document_id`, `page`, `start` and `end` say where it stands, `chunk_ids` which chunks have it; all empty where it was not found.
    """

    question: str
    passage: str
    stages: tuple[Stage, ...]
    advice: tuple[Sentence, ...]
    document_id: str | None = None
    page: int | None = None
    start: int | None = None
    end: int | None = None
    chunk_ids: tuple[str, ...] = ()

    @property
    def reached_prompt(self) -> bool:
        """Whether the model is given the passage."""
        return self.stages[-1].name == "prompt" and self.stages[-1].ok is True

    def table(self, language: str = "") -> pd.DataFrame:
        """One row per stage: its name, ok, and a sentence, in `language` (`ja`, `en`; default: that of the question)."""
        import pandas as pd

        key = language or language_of(self.question)
        rows = [{"stage": NAMES[stage.name][key], "ok": stage.ok, "why": stage.told[key]} for stage in self.stages]
        return pd.DataFrame(rows, columns=["stage", "ok", "why"])

    def _repr_markdown_(self) -> str:
        key = language_of(self.question)
        marks = {True: "✓", False: "✗", None: "–"}
        rows = [f"| {NAMES[stage.name][key]} | {marks[stage.ok]} | {_cell(stage.told[key])} |" for stage in self.stages]
        title = {"ja": "どうすれば変わるか", "en": "What would change it"}[key]
        return "\n".join(["| | | |", "| --- | --- | --- |", *rows, "", f"**{title}**", "", *(f"- {_cell(one[key])}" for one in self.advice)])


def explain(documents: Documents, collection: Collection, question: str, passage: str, *, k: int = 5, model: str = "starter-reader") -> Explanation:
    """Follow `passage` to the prompt that `model` is given for `question` with `k` hits.

    Raises:
        InvalidValue: the question or the passage is empty.
        IndexRebuilding: the index is being made anew.
    """
    for name, value in (("question", question), ("passage", passage)):
        if not squash(value):
            raise InvalidValue(name=name, value=value, allowed={"en": "some text", "ja": "文字のある文"})
    return _Trace(documents, collection, question, passage.strip(), k, model).follow()


class _Trace:
    """One passage on its way."""

    def __init__(self, documents: Documents, collection: Collection, question: str, passage: str, k: int, model: str) -> None:
        self._documents, self._store, self._collection = documents, documents.store, collection
        self._question, self._passage, self._k, self._model = question, passage, k, model
        self._stages: list[Stage] = []
        self._advice: list[Sentence] = []

    def follow(self) -> Explanation:
        """All stages as far as the passage gets."""
        place = self._find_text()
        if place is None:
            return self._end()
        held = self._find_chunks(place)
        document = self._store.get(Document, place.document_id)
        name, first = document.name if document else "", min(held, key=lambda chunk: chunk.position, default=None)
        page = self._page_at(place) if first is not None and first.page is not None else None
        self._stage("page", True, "on_page" if page else "in_document", document=name, page=page, line=first.line if first else "–")
        if held:
            self._tell_chunks(place, held)
            self._rank(place, held)
        else:
            self._stage("chunk", False, "no_chunk")
            self._advise("index", id=place.document_id)
        ids = tuple(chunk.id for chunk in held)
        return replace(self._end(), document_id=place.document_id, page=page, start=place.start, end=place.end, chunk_ids=ids)

    # --- where it stands

    def _find_text(self) -> Place | None:
        """Where the passage stands in what is searched; a failed stage says where else it is."""
        near = self._documents.retrieval.search(self._collection, self._passage, k=_CANDIDATES, mode="lexical")
        locator = Locator(self._store, self._collection)
        every = {document.id: document for document in locator.documents}
        likely = dict.fromkeys(hit.document_id for hit in near)
        locator.documents = [every[id] for id in likely if id in every]
        places = locator.find_all([Question(self._question, passage=self._passage)])[0]
        if places:
            exact = any(self._passage in hit.chunk.text for hit in near)
            self._stage("text", True, "exact" if exact else "folded")
            return places[0]
        if not self._find_elsewhere():
            self._find_closest(near)
        return None

    def _find_elsewhere(self) -> bool:
        """Whether it stands on a page that was left out, or in a document that is not searched."""
        wanted = squash(self._passage)
        for document in self._store.find(Document, collection_id=self._collection.id, newest_first=False):
            only: dict[str, Any] = {"dropped": True} if document.state == "ready" else {}
            for page in self._store.find(Page, document_id=document.id, newest_first=False, **only):
                if wanted not in squash(page.text):
                    continue
                self._stage("text", True, "read")
                if page.dropped:
                    others = [each.number for each in self._store.find(Page, document_id=document.id, dropped=True) if each.number != page.number]
                    self._stage("page", False, "dropped", document=document.name, page=page.number)
                    self._advise("take_back", id=document.id, others=sorted(others))
                else:
                    self._stage("page", False, "unsearched", document=document.name, state=document.state)
                    self._advise("index", id=document.id)
                return True
        return False

    def _find_closest(self, near: Sequence[Hit]) -> None:
        """The text most like the passage, or the documents that could not be read."""
        similarity, text = max((_closest(self._passage, hit.chunk.text) for hit in near), default=(0.0, ""))
        if similarity >= CLOSE:
            self._stage("text", False, "closest", similarity=similarity, closest=text, shown=_clip(text))
            self._advise("compare")
            return
        self._stage("text", False, "absent")
        for document in self._store.find(Document, collection_id=self._collection.id, state=["quarantined", "asks"], limit=_UNREAD):
            reason = document.reason or {}
            self._advise("unread", document=document.name, reason_en=reason.get("en", ""), reason_ja=reason.get("ja", ""))
        self._advise("look_at_pages")

    def _find_chunks(self, place: Place) -> list[Chunk]:
        """The chunks that have any of it, the one with most of it first."""

        def shared(chunk: Chunk) -> int:
            return min(place.end, chunk.end) - max(place.start, chunk.start)

        chunks = self._store.find(Chunk, document_id=place.document_id, newest_first=False)
        return sorted((chunk for chunk in chunks if shared(chunk) > 0), key=lambda chunk: (-shared(chunk), chunk.position))

    def _page_at(self, place: Place) -> int | None:
        document = self._store.get(Document, place.document_id)
        if document is None:
            return None
        return DocumentText.join(document, self._store.find(Page, document_id=document.id, newest_first=False)).page_at(place.start)

    def _tell_chunks(self, place: Place, held: Sequence[Chunk]) -> None:
        numbers = sorted(chunk.position + 1 for chunk in held)
        if len(held) == 1:
            self._stage("chunk", True, "one_chunk", number=numbers[0], characters=len(held[0].text))
            return
        self._stage("chunk", False, "split", numbers=", ".join(map(str, numbers)))
        self._advise("chunk_size", collection=self._collection.name, size=max(800, 2 * (place.end - place.start)))

    # --- how it fares

    def _rank(self, place: Place, held: Sequence[Chunk]) -> None:
        retrieval = self._documents.retrieval
        vector = retrieval.embed_query(self._collection, self._question) if self._collection.dimensions else None
        ranks = retrieval.index().rank_of(self._collection, self._question, [chunk.id for chunk in held], vector)
        if not ranks:
            self._stage("rank", False, "not_indexed")
            self._advise("again")
            return
        best = min(ranks, key=lambda one: one.rank or _FAR)
        self._tell_terms(best)
        self._tell_legs(best)
        within = best.rank is not None and best.rank <= self._k
        self._stage("rank", within, "within" if within else "beyond", rank=_number(best.rank), k=self._k)
        if not within:
            self._advise_rank(best)
            return
        hits = self._documents.find_hits(self._collection, self._question, k=self._k)
        given = Answering(self._documents).give(Condensed(self._question, self._question), hits, model=self._model, embedder=self._collection.embedder)
        self._tell_prompt(place, given)

    def _tell_terms(self, rank: ChunkRank) -> None:
        common = sorted((match for match in rank.matches if match.in_chunk), key=lambda match: -match.rarity)
        facts = {
            "asked": len(rank.matches),
            "count": len(common),
            "share": rank.share,
            "listed": ", ".join(f"{match.term} ({match.frequency})" for match in common[:_LISTED]),
            "missing": tuple(match.term for match in rank.matches if not match.in_chunk),
        }
        self._stage("terms", bool(common), "common" if common else "none_common", **facts)

    def _tell_legs(self, rank: ChunkRank) -> None:
        lexical, dense = rank.lexical_rank, rank.dense_rank
        self._stage("lexical", lexical is not None, "lexical" if lexical else "lexical_none", rank=lexical, score=rank.lexical_score)
        self._stage("dense", dense is not None, "dense" if dense and rank.cosine is not None else "dense_none", rank=dense, cosine=rank.cosine)

    def _advise_rank(self, best: ChunkRank) -> None:
        if best.rank is not None and best.rank <= _MOST_HITS:
            self._advise("more", k=best.rank)
        for mode, rank in (("lexical", best.lexical_rank), ("dense", best.dense_rank)):
            if rank is not None and rank <= self._k:
                self._advise("mode", mode=mode, rank=rank)
        known = squash(self._question)
        words = [word for word in content_words(self._passage) if len(word) > 1 and squash(word) not in known]
        if words:
            self._advise("words", words=", ".join(words[:_LISTED]))
        spoken, languages = language_of(self._passage), self._documents.models.embedder(self._collection.embedder).languages
        if language_of(self._question) != spoken or (languages and spoken not in languages):
            self._advise("embedder", embedder=self._collection.embedder)

    def _tell_prompt(self, place: Place, given: Given) -> None:
        spans = [(number, source.start or 0, source.end or 0) for number, source in enumerate(given.sources, 1) if source.document_id == place.document_id]
        whole = next((number for number, start, end in spans if start <= place.start and place.end <= end), None)
        if whole is not None:
            self._stage("prompt", True, "given", model=self._model, number=whole)
            self._advise("model")
            return
        part = any(start < place.end and place.start < end for _, start, end in spans)
        self._stage("prompt", False, "given_part" if part else "left_out", model=self._model)
        if given.is_reader and not part:
            self._advise("reader")
        self._advise("room")

    # --- what is told

    def _stage(self, name: str, ok: bool | None, key: str, **facts: Any) -> None:
        self._stages.append(Stage(name, ok, tell(key, **facts), facts))

    def _advise(self, key: str, **facts: Any) -> None:
        self._advice.append(tell(key, **facts))

    def _end(self) -> Explanation:
        return Explanation(self._question, self._passage, tuple(self._stages), tuple(self._advice))


def _closest(passage: str, text: str) -> tuple[float, str]:
    """(similarity 0 to 1, the stretch of `text` most like `passage`)."""
    matcher = SequenceMatcher(None, text, passage, autojunk=False)
    block = matcher.find_longest_match()
    start = max(0, block.a - block.b)
    stretch = text[start: start + len(passage)]
    return SequenceMatcher(None, stretch, passage, autojunk=False).ratio(), stretch


def _number(rank: int | None) -> str:
    return "–" if rank is None else str(rank)


def _clip(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"


def _cell(text: str) -> str:
    return escape_markdown(text).replace("|", "&#124;")

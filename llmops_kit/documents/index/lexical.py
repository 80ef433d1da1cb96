"""The lexical leg: a tantivy index of our own terms in one folder per build. It finds candidates and knows how frequent each term is.

Scores are not taken from it: tantivy's BM25 has other constants and rounds lengths, so the search scores the candidates itself.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llmops_kit.documents.index.faults import guard_leg

if TYPE_CHECKING:
    import tantivy

NAME = "lexical"
MAX_TERMS = 512         # different terms that candidates are looked for by: the rarest ones of a question as long as a book
_HEAP_BYTES = 64_000_000
_MAGIC = (1337).to_bytes(4, "little")       # tantivy's last four bytes of a file, after its footer's length


class LexicalRow(NamedTuple):
    """One chunk as it is indexed: its terms in order."""

    chunk_id: str
    document_id: str
    terms: Sequence[str]


class LexicalSnapshot:
    """The index as it was at one commit. It stays what it is while others write; any number of threads may read it."""

    def __init__(self, index: tantivy.Index) -> None:
        self._schema, self._searcher = index.schema, index.searcher()

    @property
    def size(self) -> int:
        """How many chunks there are."""
        with guard_leg(NAME):
            return int(self._searcher.num_docs)

    def frequencies(self, terms: Iterable[str]) -> dict[str, int]:
        """In how many chunks each term is. Chunks that were removed since the last compaction still count, up to `size`."""
        with guard_leg(NAME):
            size = self._searcher.num_docs
            return {term: min(self._searcher.doc_freq("terms", term), size) for term in terms}

    def candidates(self, terms: Counter[str], frequencies: dict[str, int], n: int, documents: Set[str] | None = None) -> list[str]:
        """Ids of about the best `n` chunks that have any of `terms`, by tantivy's own score; only of `documents` unless None."""
        import tantivy

        known = sorted((term for term in terms if frequencies.get(term)), key=lambda term: (frequencies[term], term))[:MAX_TERMS]
        if not known or (documents is not None and not documents):
            return []
        with guard_leg(NAME):
            any_of = tantivy.Query.boolean_query([(tantivy.Occur.Should, self._boost(term, terms[term])) for term in known])
            return self._find(self._within(any_of, documents), n)

    def with_all(self, terms: Iterable[str], n: int) -> tuple[int, list[str]]:
        """(in how many chunks all of `terms` are, ids of the first `n`)."""
        import tantivy

        wanted = [(tantivy.Occur.Must, self._term(term)) for term in dict.fromkeys(terms)]
        if not wanted:
            return 0, []
        with guard_leg(NAME):
            query = tantivy.Query.boolean_query(wanted)
            found: Any = self._searcher.search(query, 1, count=True)
            return int(found.count), self._find(query, n)

    def count(self, chunk_id: str) -> int:
        """How often a chunk is there: 1 in an index that is sound."""
        import tantivy

        with guard_leg(NAME):
            query = tantivy.Query.term_query(self._schema, "chunk", chunk_id, index_option="basic")
            return len(self._searcher.search(query, 2, count=False).hits)

    def _find(self, query: tantivy.Query, n: int) -> list[str]:
        hits = self._searcher.search(query, n, count=False).hits
        return [str(self._searcher.doc(address).get_first("chunk")) for _, address in hits]

    def _term(self, term: str) -> tantivy.Query:
        import tantivy

        return tantivy.Query.term_query(self._schema, "terms", term, index_option="freq")

    def _boost(self, term: str, count: int) -> tantivy.Query:
        import tantivy

        return self._term(term) if count == 1 else tantivy.Query.boost_query(self._term(term), float(count))

    def _within(self, query: tantivy.Query, documents: Set[str] | None) -> tantivy.Query:
        import tantivy

        if documents is None:
            return query
        among = tantivy.Query.term_set_query(self._schema, "document", sorted(documents))
        return tantivy.Query.boolean_query([(tantivy.Occur.Must, query), (tantivy.Occur.Must, tantivy.Query.const_score_query(among, 0.0))])


class LexicalLeg:
    """One build: opens the tantivy index in `folder`, or makes an empty one. One writer at a time.

    Raises:
        LegFault: the folder is damaged (a file is missing, cut short, or its bytes are not those that were written).
    """

    def __init__(self, folder: Path) -> None:
        import tantivy

        self.folder = folder
        with guard_leg(NAME):
            folder.mkdir(parents=True, exist_ok=True)
            self._is_clean = not any(folder.iterdir())
            if not self._is_clean:
                _verify_checksums(folder)
                self._index = tantivy.Index.open(str(folder))
            else:
                self._index = tantivy.Index(_schema(), path=str(folder))
            self._index.config_reader(reload_policy="manual")   # its default is a thread per folder that watches for commits
        self.snapshot = self._take()

    def write(self, removed: Iterable[str], rows: Iterable[LexicalRow]) -> None:
        """Take out the documents `removed`, then put in `rows`: one commit, durable and visible to new snapshots when this returns."""
        import tantivy

        with guard_leg(NAME):
            writer = self._index.writer(heap_size=_HEAP_BYTES, num_threads=1)
            try:
                if not self._is_clean:        # a kill in the middle of a commit leaves files whose names the next commit would want
                    writer.garbage_collect_files()
                    self._is_clean = True
                for document_id in removed:
                    writer.delete_documents_by_term("document", document_id)
                for row in rows:
                    document = tantivy.Document()
                    document.add_text("chunk", row.chunk_id)
                    document.add_text("document", row.document_id)
                    document.add_text("terms", " ".join(row.terms))
                    writer.add_document(document)
                writer.commit()
            finally:
                writer.wait_merging_threads()       # ends its threads and lets go of the folder's lock
        self.snapshot = self._take()

    def _take(self) -> LexicalSnapshot:
        with guard_leg(NAME):
            self._index.reload()
            return LexicalSnapshot(self._index)


def _schema() -> tantivy.Schema:
    import tantivy

    builder = tantivy.SchemaBuilder()
    builder.add_text_field("terms", stored=False, tokenizer_name="whitespace", index_option="freq")
    builder.add_text_field("chunk", stored=True, tokenizer_name="raw", index_option="basic")
    builder.add_text_field("document", stored=False, tokenizer_name="raw", index_option="basic")
    return builder.build()


def _verify_checksums(folder: Path) -> None:
    """Every file of a segment ends with a footer that holds the CRC-32 of what is before it; tantivy itself does not compare it on opening."""
    for path in folder.iterdir():
        written = path.read_bytes() if path.suffix in (".term", ".idx", ".store", ".fast", ".fieldnorm", ".pos", ".del") else b""
        if written[-4:] != _MAGIC:      # not a segment's file, or one that tantivy will refuse by itself
            continue
        end = len(written) - 8
        start = end - int.from_bytes(written[-8:-4], "little")
        footer = json.loads(written[start:end]) if start >= 0 else {}
        if zlib.crc32(written[:start]) != footer.get("crc"):
            raise ValueError(f"the bytes of {path.name} are not those that were written")

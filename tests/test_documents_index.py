"""The search indexes: hits are those of the exact fusion, a sync brings them up to the store, and whatever breaks is made anew by itself."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from llmops_kit.documents.index import Index
from llmops_kit.documents.index.dense import ChromaBackend, VectorRow
from llmops_kit.documents.index.lexical import LexicalLeg, LexicalRow
from llmops_kit.documents.index.pgvector import PgBackend
from llmops_kit.errors import IndexRebuilding, InvalidValue, SettingError, UnknownName, WorkspaceError
from llmops_kit.models.fusion import fuse
from llmops_kit.models.lexical import LexicalIndex
from llmops_kit.settings import Settings
from llmops_kit.store import Store
from llmops_kit.types import Chunk, Collection, new_id
from tests.documents_index_data import DIMENSIONS, add_collection, embed, put_document, remove_document
from tests.test_store import postgres_url  # noqa: F401 - a fixture

TOPICS = ("有給休暇", "出張旅費", "通勤手当", "情報管理", "健康診断", "remote work", "travel costs", "給与の支払い", "退職手続き", "育児休業")
RULES = [f"{topic}について第{number}条に定める。{topic}の申請は{number}日前まで。" for number in range(1, 13) for topic in TOPICS]
QUERIES = ["有給休暇は何日前", "第3条の出張旅費", "remote work", "健康診断 12条", "退職手続きと育児", "7日前", "What are travel costs?", "宇宙"]


@pytest.fixture(params=["chroma", "pgvector"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of both kinds of vectors; the second with a PostgreSQL database of its own."""
    if request.param == "chroma":
        return Settings(workspace=tmp_path)
    base = sa.make_url(request.getfixturevalue("postgres_url"))
    name = f"t{new_id().replace('-', '')}"
    admin = sa.create_engine(base, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
    admin.dispose()
    return Settings(workspace=tmp_path, vectors="pgvector", database_url=base.set(database=name).render_as_string(hide_password=False))


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """The store of these settings."""
    opened = Store(settings.store_url)
    yield opened
    opened.close()


@pytest.fixture
def open_index(settings: Settings, store: Store) -> Iterator[Callable[[], Index]]:
    """Opens the index as a new process would; the one before is closed."""
    opened: list[Index] = []

    def open_again() -> Index:
        if opened:
            opened.pop().close()
        opened.append(Index(settings.documents_folder / "index", store, settings))
        return opened[-1]

    yield open_again
    if opened:
        opened.pop().close()


def folder_of(settings: Settings, collection: Collection) -> Path:
    return settings.documents_folder / "index" / collection.id


def texts_of(index: Index, collection: Collection, query: str, **options: object) -> list[str]:
    return [hit.chunk.text for hit in index.search(collection, query, embed(query), **options)]  # type: ignore[arg-type]


def fuse_exactly(texts: list[str], query: str, mode: str) -> list[float]:
    """The scores that the index of one leg after the other, over all texts, would give."""
    lexical = LexicalIndex(texts)
    words, near = lexical.scores(query), np.stack([embed(text) for text in texts]) @ embed(query)
    if mode == "dense":
        return near.tolist()
    return (words / lexical.ceiling(query) if mode == "lexical" else fuse(words, near, ceiling=lexical.ceiling(query))).tolist()


@pytest.mark.parametrize("mode", ["hybrid", "lexical", "dense"])
def test_hits_are_those_of_the_exact_fusion(open_index: Callable[[], Index], store: Store, mode: str) -> None:
    collection, index = add_collection(store), open_index()
    for start in range(0, len(RULES), 7):
        put_document(store, collection, RULES[start : start + 7])
    index.sync(collection)
    for query in QUERIES:
        hits = index.search(collection, query, embed(query), k=5, mode=mode)
        exact = dict(zip(RULES, fuse_exactly(RULES, query, mode), strict=True))
        best = sorted((score for score in exact.values() if mode != "lexical" or score > 0), reverse=True)[:5]
        assert [hit.score for hit in hits] == pytest.approx(best, abs=2e-3)
        assert [hit.score for hit in hits] == pytest.approx([exact[hit.chunk.text] for hit in hits], abs=2e-3)


def test_a_hit_says_why(open_index: Callable[[], Index], store: Store) -> None:
    collection, index = add_collection(store), open_index()
    document = put_document(store, collection, ["有給休暇は年20日です。", "食堂は12時から。", "Paid leave is 20 days."])
    index.sync(collection)
    first, *others = index.search(collection, "有給", embed("食堂は12時から。"), k=3)
    assert (first.chunk.text, first.document_id, first.lexical_rank) == ("有給休暇は年20日です。", document.id, 1)
    assert 0 < first.share <= 1 and first.lexical_score > 0
    near = next(hit for hit in others if hit.chunk.text == "食堂は12時から。")
    assert (near.lexical_rank, near.lexical_score, near.dense_rank) == (None, 0, 1)
    assert near.cosine == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("word", ["有給", "ｱﾊﾟｰﾄ", "１２時", "𠮷野", "😀", "3000円", "o'clock", "İstanbul", "長" * 5000, "x" * 9000, "\ud800有給"])
def test_every_word_is_findable(open_index: Callable[[], Index], store: Store, word: str) -> None:
    collection, index = add_collection(store), open_index()
    put_document(store, collection, [f"前文。{word}の話。\x00", "食堂は13時から。", "別の文。"])
    index.sync(collection)
    assert texts_of(index, collection, word, mode="lexical", k=1)[0].startswith("前文")
    found = index.findable(collection, word)
    assert found.chunks == 1 and found.first[0].text.startswith("前文")
    assert all(frequency >= 1 for _, frequency in found.terms)


def test_what_cannot_be_found_is_said(open_index: Callable[[], Index], store: Store) -> None:
    collection, index = add_collection(store), open_index()
    assert texts_of(index, collection, "有給") == []
    put_document(store, collection, ["有給休暇は年20日です。"])
    index.sync(collection)
    assert texts_of(index, collection, "宇宙船", mode="lexical") == []
    assert index.search(collection, "宇宙船", None) == []
    assert index.search(collection, "。。。", np.zeros(DIMENSIONS, np.float32)) == []
    assert index.findable(collection, "宇宙") == replace(index.findable(collection, "宇宙"), chunks=0, first=())
    assert index.findable(collection, "。").terms == ()
    for bad in ({"k": 0}, {"mode": "semantic"}):
        with pytest.raises(InvalidValue):
            texts_of(index, collection, "有給", **bad)
    with pytest.raises(InvalidValue, match="dense"):
        index.search(collection, "有給", None, mode="dense")
    with pytest.raises(ValueError, match=str(DIMENSIONS)):
        index.search(collection, "有給", embed("有給", 8))
    with pytest.raises(UnknownName):
        index.state(new_id())


def test_a_filter_holds_in_every_mode(open_index: Callable[[], Index], store: Store) -> None:
    collection, index = add_collection(store), open_index()
    documents = [put_document(store, collection, RULES[start : start + 10]) for start in range(0, len(RULES), 10)]
    index.sync(collection)
    some = {documents[2].id, documents[5].id}
    for mode in ("hybrid", "lexical", "dense"):
        hits = index.search(collection, "有給休暇の申請は3日前", embed("有給"), k=8, mode=mode, documents=some)
        assert hits and {hit.document_id for hit in hits} <= some
        assert texts_of(index, collection, "有給", mode=mode, documents=set()) == []
        assert texts_of(index, collection, "有給", mode=mode, documents={new_id()}) == []


def test_a_sync_follows_the_store(open_index: Callable[[], Index], store: Store) -> None:
    collection, index = add_collection(store), open_index()
    kept = put_document(store, collection, ["有給休暇は年20日です。", "半日でも取れます。"])
    changed = put_document(store, collection, ["出張旅費は翌月払い。", "領収書が要ります。", "宿泊費は一万円まで。"])
    gone = put_document(store, collection, ["秘密計画ゼータの概要。"])
    index.sync(collection)
    index.sync(collection)
    changed = put_document(store, collection, ["通勤手当は六か月分。"], changed)
    remove_document(store, gone)
    put_document(store, collection, ["健康診断は毎年五月。"])
    index.sync(collection)
    every = {hit.chunk.text for hit in index.search(collection, "有給 半日 出張 領収書 宿泊 秘密 通勤 健康", embed("有給"), k=20)}
    assert every == {"有給休暇は年20日です。", "半日でも取れます。", "通勤手当は六か月分。", "健康診断は毎年五月。"}
    assert [index.findable(collection, word).chunks for word in ("有給", "出張", "秘密", "通勤")] == [1, 0, 0, 1]
    assert index.check(collection) and index.state(collection.id) == "ready"
    store_only = replace(kept, state="reading")
    with store.change() as change:
        change.put(store_only)
    index.sync(collection)
    assert texts_of(index, collection, "有給", mode="lexical") == []


def test_a_chunk_the_store_lost_is_no_hit_even_before_the_sync(open_index: Callable[[], Index], store: Store) -> None:
    collection, index = add_collection(store), open_index()
    document = put_document(store, collection, ["有給休暇は年20日です。"])
    index.sync(collection)
    remove_document(store, document)
    assert texts_of(index, collection, "有給") == []


def test_what_was_removed_leaves_no_trace(open_index: Callable[[], Index], store: Store, settings: Settings) -> None:
    collection, index = add_collection(store), open_index()
    for start in range(0, len(RULES), 10):
        put_document(store, collection, RULES[start : start + 10])
    gone = put_document(store, collection, ["暗号名zetaplan7の概要。"])
    index.sync(collection)
    assert find_traces(settings, store, collection, gone.id)
    remove_document(store, gone)
    index.sync(collection)
    assert find_traces(settings, store, collection, gone.id) == []


def test_a_large_collection_is_cleared_in_the_background(open_index: Callable[[], Index], store: Store, settings: Settings) -> None:
    collection, index = add_collection(store), open_index()
    put_document(store, collection, [f"第{number}条 {rule}" for number in range(11) for rule in RULES])
    gone = put_document(store, collection, ["暗号名zetaplan7の概要。"])
    index.sync(collection)
    remove_document(store, gone)
    index.sync(collection)
    assert texts_of(index, collection, "zetaplan7", mode="lexical") == []
    added = put_document(store, collection, ["暗号名etaplan8の概要。"])
    index.sync(collection)
    assert texts_of(index, collection, "etaplan8", mode="lexical") == ["暗号名etaplan8の概要。"]
    index.wait()
    assert find_traces(settings, store, collection, gone.id) == []
    assert [hit.document_id for hit in index.search(collection, "etaplan8", None)] == [added.id]
    assert index.check(collection)


def find_traces(settings: Settings, store: Store, collection: Collection, document_id: str) -> list[str]:
    """Where a document's id, its term, or its rows still are in what the index keeps."""
    marks = [document_id.encode(), b"zetaplan7"]
    # Chroma's graph file holds vectors and numbers, and up to its capacity whatever was in the memory it got: an id stood there once in some runs.
    files = [path for path in folder_of(settings, collection).rglob("*") if path.is_file() and path.name != "data_level0.bin"]
    found = [path.name for path in files if any(mark in path.read_bytes() for mark in marks)]
    if settings.vectors == "pgvector":
        with store._engine.connect() as connection:
            tables = connection.execute(sa.text("SELECT tablename FROM pg_tables WHERE tablename LIKE 'v\\_%'")).scalars().all()
            for table in tables:
                rows = connection.execute(sa.text(f"SELECT count(*) FROM {table} WHERE document = :id"), {"id": document_id})
                found += [table] * rows.scalar_one()
    return found


def test_another_embedder_means_another_index(open_index: Callable[[], Index], store: Store) -> None:
    collection, index = add_collection(store), open_index()
    document = put_document(store, collection, ["有給休暇は年20日です。", "食堂は12時から。"])
    index.sync(collection)
    other = replace(collection, embedder="other", embedder_revision="r2", dimensions=8)
    with store.change() as change:
        change.put(other)
    put_document(store, other, ["有給休暇は年20日です。", "食堂は12時から。"], document)
    index.sync(other)
    hits = index.search(other, "食堂", embed("食堂は12時から。", 8), k=2, mode="dense")
    assert hits[0].chunk.text == "食堂は12時から。" and hits[0].cosine == pytest.approx(1, abs=1e-3)


def test_documents_without_vectors_are_found_by_their_words(open_index: Callable[[], Index], store: Store) -> None:
    collection, index = add_collection(store), open_index()
    put_document(store, collection, ["有給休暇は年20日です。", "食堂は12時から。"], with_vectors=False)
    index.sync(collection)
    (hit,) = index.search(collection, "有給", None)
    assert (hit.chunk.text, hit.cosine, hit.dense_rank) == ("有給休暇は年20日です。", None, None)
    put_document(store, collection, ["出張旅費は翌月払い。"])
    index.sync(collection)
    assert texts_of(index, collection, "出張", k=1) == ["出張旅費は翌月払い。"]
    assert index.check(collection)


def test_ranks_are_known_far_down(open_index: Callable[[], Index], store: Store) -> None:
    collection, index = add_collection(store), open_index()
    documents = [put_document(store, collection, RULES[start : start + 10]) for start in range(0, len(RULES), 10)]
    index.sync(collection)
    query = "有給休暇の申請は3日前"
    exact = {mode: fuse_exactly(RULES, query, mode) for mode in ("hybrid", "lexical", "dense")}
    ids = [f"{document.id}:{position}" for document in documents for position in (0, 4, 9)]
    sought = [10 * number + position for number in range(12) for position in (0, 4, 9)]
    for place, ranked in zip(sought, index.rank_of(collection, query, ids, embed(query)), strict=True):
        assert ranked.chunk.text == RULES[place] and ranked.exact
        assert ranked.score == pytest.approx(exact["hybrid"][place], abs=2e-3)
        assert abs(ranked.dense_rank - 1 - sum(score > exact["dense"][place] for score in exact["dense"])) <= 1  # type: ignore[operator]
        above = sum(score > exact["lexical"][place] + 1e-6 for score in exact["lexical"])
        ties = sum(abs(score - exact["lexical"][place]) <= 1e-6 for score in exact["lexical"])
        assert exact["lexical"][place] == 0 if ranked.lexical_rank is None else above < ranked.lexical_rank <= above + ties
    (first,) = index.rank_of(collection, query, [ids[6]], None)
    match = {match.term: match for match in first.matches}["有給"]
    assert (match.in_query, match.in_chunk, match.frequency) == (1, 2, 12) and "有給" in first.terms
    assert first.dense_rank is None and first.cosine is None
    assert index.rank_of(collection, query, [f"{new_id()}:0"], None) == []


DAMAGES: dict[str, Callable[[Path], None]] = {
    "no folder": shutil.rmtree,
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "half a manifest": lambda folder: (folder / "manifest.json").write_bytes((folder / "manifest.json").read_bytes()[:60]),
    "no lexical folder": lambda folder: shutil.rmtree(next(folder.glob("lexical-*"))),
    "terms cut short": lambda folder: cut_short(next(folder.rglob("*.term"))),
    "postings zeroed": lambda folder: zero(next(folder.rglob("*.idx"))),
    "one bit of the postings": lambda folder: flip(next(folder.rglob("*.idx"))),
    "one bit of the terms": lambda folder: flip(next(folder.rglob("*.term"))),
    "lexical meta": lambda folder: cut_short(next(folder.glob("lexical-*/meta.json"))),
}
CHROMA_DAMAGES: dict[str, Callable[[Path], None]] = {
    "no chroma folder": lambda folder: shutil.rmtree(next(folder.glob("chroma-*"))),
    "chroma database cut short": lambda folder: cut_short(next(folder.rglob("chroma.sqlite3"))),
    "chroma database zeroed": lambda folder: zero(next(folder.rglob("chroma.sqlite3"))),
}


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flip(path: Path) -> None:
    written = bytearray(path.read_bytes())
    written[len(written) // 3] ^= 4
    path.write_bytes(written)


@pytest.mark.parametrize("damage", [*DAMAGES, *CHROMA_DAMAGES])
def test_a_damaged_index_is_made_anew(open_index: Callable[[], Index], store: Store, settings: Settings, damage: str) -> None:
    if settings.vectors == "pgvector" and damage in CHROMA_DAMAGES:
        pytest.skip("there is no Chroma folder to damage")
    collection, index = add_collection(store), open_index()
    for start in range(0, len(RULES), 10):
        put_document(store, collection, RULES[start : start + 10])
    index.sync(collection)
    right = texts_of(index, collection, QUERIES[0], k=5)
    index.close()
    {**DAMAGES, **CHROMA_DAMAGES}[damage](folder_of(settings, collection))
    index = open_index()
    assert texts_of(index, collection, QUERIES[0], k=5) == right
    assert index.check(collection) and index.state(collection.id) == "ready"
    assert len(list(folder_of(settings, collection).glob("lexical-*"))) == 1


@pytest.mark.parametrize("damage", ["no folder", "half a manifest", "one bit of the terms"])
def test_a_large_damaged_index_says_that_it_is_rebuilding(open_index: Callable[[], Index], store: Store, settings: Settings, damage: str) -> None:
    collection, index = add_collection(store), open_index()
    for start in range(0, 20):
        put_document(store, collection, [f"第{start}編 {rule}" for rule in RULES])
    index.sync(collection)
    index.close()
    DAMAGES[damage](folder_of(settings, collection))
    index = open_index()
    with pytest.raises(IndexRebuilding) as told:
        texts_of(index, collection, QUERIES[0])
    assert collection.name in told.value.text("ja")
    assert index.state(collection.id) in ("rebuilding", "ready")
    index.wait()
    assert index.state(collection.id) == "ready" and index.check(collection)
    assert index.findable(collection, "19編").chunks == len(RULES)


def test_an_index_that_cannot_be_made_says_why_and_recovers(open_index: Callable[[], Index], store: Store, settings: Settings) -> None:
    collection, index = add_collection(store), open_index()
    put_document(store, collection, RULES[:20])
    in_the_way = folder_of(settings, collection)
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("no folder")
    for _ in range(2):
        with pytest.raises(WorkspaceError, match=collection.id):
            index.sync(collection)
        with pytest.raises(WorkspaceError, match=collection.id):
            texts_of(index, collection, "有給")
    in_the_way.unlink()
    index.wait()
    index.sync(collection)
    assert texts_of(index, collection, RULES[3], k=1) == [RULES[3]] and index.check(collection)


def test_vectors_that_are_lost_while_it_is_open_are_noticed(open_index: Callable[[], Index], store: Store, settings: Settings) -> None:
    collection, index = add_collection(store), open_index()
    for start in range(0, len(RULES), 10):
        put_document(store, collection, RULES[start : start + 10])
    index.sync(collection)
    right = texts_of(index, collection, QUERIES[0], k=5)
    lose_vectors(settings, store, collection)
    assert not index.check(collection)
    index.wait()
    assert index.check(collection) and texts_of(index, collection, QUERIES[0], k=5) == right
    lose_vectors(settings, store, collection)
    put_document(store, collection, ["健康診断は毎年五月。"])
    index.close()
    index = open_index()
    index.sync(collection)
    assert index.check(collection)


def lose_vectors(settings: Settings, store: Store, collection: Collection) -> None:
    """Take half of the vectors out behind the back of the index."""
    ids = [id for (id,) in store.values(Chunk, ("id",), collection_id=collection.id)]
    backend = PgBackend(store) if settings.vectors == "pgvector" else ChromaBackend(settings.documents_folder / "index")
    (build,) = backend.builds(collection.id)
    vectors = backend.open(collection.id, build)
    vectors.remove(ids[::2])
    vectors.close()


def test_a_table_dropped_while_it_is_searched_is_made_anew(open_index: Callable[[], Index], store: Store, settings: Settings) -> None:
    if settings.vectors != "pgvector":
        pytest.skip("a table of PostgreSQL")
    collection, index = add_collection(store), open_index()
    put_document(store, collection, RULES)
    index.sync(collection)
    right = texts_of(index, collection, QUERIES[0])
    backend = PgBackend(store)
    backend.drop(collection.id, backend.builds(collection.id)[0])
    with pytest.raises(IndexRebuilding):
        texts_of(index, collection, QUERIES[0])
    index.wait()
    assert texts_of(index, collection, QUERIES[0]) == right


def test_a_sync_cut_off_is_finished_by_the_next(open_index: Callable[[], Index], store: Store, settings: Settings) -> None:
    class CutOff(Exception):
        pass

    def cut_off(done: int, total: int, seconds_left: float | None) -> None:
        raise CutOff

    collection, index = add_collection(store), open_index()
    first = put_document(store, collection, RULES[:40])
    index.sync(collection)
    put_document(store, collection, RULES[40:60], first)
    put_document(store, collection, [f"{rule}補則" for rule in RULES * 20])
    with pytest.raises(CutOff):
        index._index_of(collection.id).renew(collection, cut_off)
    index = open_index()
    index.sync(collection)
    assert index.check(collection)
    assert index.findable(collection, "補則").chunks == len(RULES) * 20
    index.wait()        # until what was removed is cleared its terms count in the frequencies
    texts = [*RULES[40:60], *[f"{rule}補則" for rule in RULES * 20]]
    best = max(fuse_exactly(texts, QUERIES[1], "lexical"))
    assert index.search(collection, QUERIES[1], embed(QUERIES[1]), k=1, mode="lexical")[0].share == pytest.approx(best, rel=1e-5)


def test_a_commit_cut_off_by_a_kill_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    leg = LexicalLeg(tmp_path / "leg")
    leg.write([], [LexicalRow(f"d{number}:0", f"d{number}", ["有", "給"]) for number in range(9)])
    before = (tmp_path / "leg" / "meta.json").read_bytes()
    leg.write(["d1"], [])
    (tmp_path / "leg" / "meta.json").write_bytes(before)      # as a kill leaves it that comes before the last step of the commit
    leg = LexicalLeg(tmp_path / "leg")
    assert leg.snapshot.size == 9
    leg.write(["d2"], [])
    assert (leg.snapshot.size, leg.snapshot.count("d1:0"), leg.snapshot.count("d2:0")) == (8, 1, 0)


def test_a_rebuild_reports_its_progress_and_a_sound_index_answers_meanwhile(open_index: Callable[[], Index], store: Store) -> None:
    collection, index = add_collection(store), open_index()
    put_document(store, collection, RULES * 20)
    put_document(store, collection, ["暗号名etaplan8の概要。"])
    index.sync(collection)
    seen: list[tuple[int, int]] = []

    def watch(done: int, total: int, seconds_left: float | None) -> None:
        seen.append((done, total))
        assert texts_of(index, collection, "etaplan8", mode="lexical") == ["暗号名etaplan8の概要。"]

    index.rebuild(collection, watch)
    assert seen[-1] == (2401, 2401) and len(seen) > 1
    assert texts_of(index, collection, "etaplan8", mode="lexical") == ["暗号名etaplan8の概要。"]


def test_searches_and_syncs_do_not_disturb_each_other(open_index: Callable[[], Index], store: Store) -> None:
    collection, index = add_collection(store), open_index()
    put_document(store, collection, RULES)
    index.sync(collection)
    faults: list[object] = []
    stop = threading.Event()

    def keep_searching(seed: int) -> None:
        rng = random.Random(seed)
        while not stop.is_set():
            rule = rng.choice(RULES)
            try:
                found = texts_of(index, collection, rule, k=1)
            except IndexRebuilding:
                continue
            except BaseException as fault:  # noqa: BLE001
                found = [repr(fault)]
            if found != [rule]:
                faults.append((rule, found))

    threads = [threading.Thread(target=keep_searching, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for number in range(6):
        added = put_document(store, collection, [f"追加{number}の別の話", f"追加{number}の続き"])
        index.sync(collection)
        assert index.findable(collection, f"追加{number}の別").chunks == 1
        if number % 2:
            remove_document(store, added)
            index.sync(collection)
            assert index.findable(collection, f"追加{number}の別").chunks == 0
    stop.set()
    for thread in threads:
        thread.join()
    assert faults == []


def test_forgetting_and_sweeping_leave_nothing(open_index: Callable[[], Index], store: Store, settings: Settings) -> None:
    one, other, index = add_collection(store, "one"), add_collection(store, "other"), open_index()
    for collection in (one, other):
        put_document(store, collection, RULES[:20])
        index.sync(collection)
    index.forget(one.id)
    assert not folder_of(settings, one).exists()
    with store.change() as change:
        change.remove(Collection, id=other.id)
    index = open_index()
    assert not folder_of(settings, other).exists()
    if settings.vectors == "pgvector":
        assert [PgBackend(store).builds(each.id) for each in (one, other)] == [[], []]


def test_collections_used_longest_ago_are_closed_and_come_back(store: Store, settings: Settings) -> None:
    index = Index(settings.documents_folder / "index", store, settings, max_open=2)
    collections = [add_collection(store, f"c{number}") for number in range(5)]
    for number, collection in enumerate(collections):
        put_document(store, collection, [f"暗号名plan{number}の概要。"])
        index.sync(collection)
    assert sum(each.is_open for each in index._collections.values()) <= 3
    for number, collection in enumerate(collections):
        assert texts_of(index, collection, f"plan{number}", k=1) == [f"暗号名plan{number}の概要。"]
    index.close()


def test_pgvector_needs_postgresql(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path, vectors="pgvector")
    store = Store(settings.store_url)
    with pytest.raises(SettingError, match="LLMOPS_DATABASE_URL"):
        Index(settings.documents_folder / "index", store, settings)
    store.close()


def test_both_kinds_of_vectors_keep_the_protocol(store: Store, settings: Settings, tmp_path: Path) -> None:
    backend = PgBackend(store) if settings.vectors == "pgvector" else ChromaBackend(tmp_path / "vectors")
    vectors = backend.open("c1", "b1")
    assert (vectors.count(), vectors.search(embed("a"), 3) if settings.vectors == "pgvector" else []) == (0, [])
    vectors.put([VectorRow(f"d{number % 3}:{number}", f"d{number % 3}", embed(f"文{number}")) for number in range(30)])
    vectors.put([VectorRow("d0:0", "d0", embed("別"))])
    vectors.settle()
    assert vectors.count() == 30 and vectors.search(embed("別"), 1) == ["d0:0"]
    assert set(vectors.search(embed("文4"), 30, {"d1"})) == {f"d1:{number}" for number in range(1, 30, 3)}
    assert vectors.vectors(["d0:0", "none"])["d0:0"] == pytest.approx(embed("別"), abs=1e-3)
    vectors.remove(["d0:0", "none"])
    vectors.remove_documents(["d1", "none"])
    assert vectors.count() == 19
    vectors.close()
    assert backend.builds("c1") == ["b1"]
    backend.drop("c1", "b1")
    assert backend.builds("c1") == []


def test_a_search_may_be_limited_to_more_documents_than_a_statement_takes(tmp_path: Path) -> None:
    leg = ChromaBackend(tmp_path).open(new_id(), "build")
    vectors = np.random.default_rng(3).normal(size=(400, DIMENSIONS)).astype(np.float32)
    leg.put([VectorRow(f"{number}:0", f"d{number}", vector) for number, vector in enumerate(vectors)])
    many = {f"d{number}" for number in range(0, 80_000, 2)}
    cosines = vectors @ vectors[0] / np.linalg.norm(vectors, axis=1)
    nearest = [f"{number}:0" for number in np.argsort(-cosines) if number % 2 == 0][:20]
    assert leg.search(vectors[0], 20, many) == nearest
    leg.close()

"""What several people, or a person and work under way, do to documents at the same moment: nothing is lost, doubled, brought back or mixed.

An embeddings server that answers when it is told to stands still in the middle of an ingestion, so that each test knows what happened when.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from llmops_kit import open_kit
from llmops_kit.documents.files import Incoming
from llmops_kit.errors import Cancelled, EndpointError, IndexRebuilding, UnknownName
from llmops_kit.kit import Kit
from llmops_kit.types import Chunk, Collection, Document, Page

WAIT_S = 60.0


class Gate(ThreadingHTTPServer):
    """An embeddings server. While `shut`, a request is noted in `arrived` and waits for `let_through`; `down` makes it refuse."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.shut = self.down = False
        self.arrived, self.opened = threading.Event(), threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def close_gate(self) -> None:
        self.arrived.clear()
        self.opened.clear()
        self.shut = True

    def let_through(self) -> None:
        self.shut = False
        self.opened.set()


class _Answer(BaseHTTPRequestHandler):
    server: Gate

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.shut:
            self.server.arrived.set()
            self.server.opened.wait(WAIT_S)
        wide = 24 if body["model"] == "wide" else 16
        rows = [np.random.default_rng(zlib.crc32(text.encode())).normal(size=wide).tolist() for text in body["input"]]
        data = json.dumps({"data": [{"index": place, "embedding": row} for place, row in enumerate(rows)]}).encode()
        self.send_response(404 if self.server.down else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def gate() -> Iterator[Gate]:
    server = Gate()
    yield server
    server.let_through()
    server.shutdown()
    server.server_close()


def open_with(folder: Path, gate: Gate, **settings: object) -> Kit:
    kit = open_kit(folder, embedder="far", **settings)
    for id, model, dimensions in (("far", "narrow", 16), ("wide", "wide", 24)):
        if id not in {entry.id for entry in kit.models.entries(embedders=True)}:
            kit.models.add(id, provider="openai", model=model, kind="embedding", base_url=gate.url, dimensions=dimensions)
    return kit


@pytest.fixture
def kit(tmp_path: Path, gate: Gate) -> Iterator[Kit]:
    with open_with(tmp_path / "workspace", gate) as opened:
        yield opened
        gate.let_through()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


@pytest.fixture
def begin(gate: Gate, pool: ThreadPoolExecutor) -> Callable[..., Future]:
    def begin_work(work: Callable[..., object], *given: object, **options: object) -> Future:
        """Start `work` in a thread; it stands before the embeddings server when this returns."""
        gate.close_gate()
        begun = pool.submit(work, *given, **options)
        if not gate.arrived.wait(WAIT_S):
            raise AssertionError(begun.exception(0) if begun.done() else "nothing was embedded")
        return begun

    return begin_work


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def files_kept(kit: Kit) -> list[Path]:
    return [path for path in (kit.settings.documents_folder / "files").rglob("*") if path.is_file()]


def check_whole(kit: Kit) -> None:
    """Every chunk belongs to a ready document of its collection, all vectors of a collection are alike, and each document is whole."""
    documents = {each.id: each for each in kit.store.find(Document)}
    collections = {each.id: each for each in kit.store.find(Collection)}
    assert {each.collection_id for each in documents.values()} <= set(collections)
    for chunk in kit.store.find(Chunk):
        assert documents[chunk.document_id].state == "ready"
        assert len(chunk.vector) == 2 * collections[chunk.collection_id].dimensions
    assert {document_id for (document_id,) in kit.store.values(Page, ("document_id",))} <= set(documents)
    for id, document in documents.items():
        chunks = kit.store.find(Chunk, document_id=id, newest_first=False)
        assert len(chunks) == document.chunks and (document.state != "ready" or "".join(each.text for each in chunks) == kit.documents.text(id))
    named = {each.sha256 for each in documents.values()}
    assert {path.name for path in files_kept(kit)} <= named


def test_a_collection_removed_while_documents_go_in_stays_removed(kit: Kit, gate: Gate, begin: Callable[..., Future], tmp_path: Path) -> None:
    adding = begin(kit.documents.add, write(tmp_path, "a.txt", "有給休暇は十日です。"), progress=False)
    kit.documents.remove_collection("default")
    gate.let_through()
    adding.result(WAIT_S)
    assert [kit.store.count(kind) for kind in (Collection, Document, Page, Chunk)] == [0, 0, 0, 0] and not files_kept(kit)
    assert list((kit.settings.documents_folder / "index").glob("*")) == []


def test_a_document_removed_while_it_goes_in_stays_removed(kit: Kit, gate: Gate, begin: Callable[..., Future], tmp_path: Path) -> None:
    adding = begin(kit.documents.add, [write(tmp_path, "a.txt", "一つ目です。"), write(tmp_path, "b.txt", "二つ目です。")], progress=False)
    kit.documents.remove(next(each.id for each in kit.store.find(Document) if each.name == "a.txt"))
    gate.let_through()
    adding.result(WAIT_S)
    assert [each.name for each in kit.store.find(Document)] == ["b.txt"]
    check_whole(kit)


def test_what_is_said_of_a_document_meanwhile_is_kept(kit: Kit, gate: Gate, begin: Callable[..., Future], tmp_path: Path) -> None:
    adding = begin(kit.documents.add, write(tmp_path, "a.txt", "有給休暇は十日です。"), progress=False)
    (document,) = kit.store.find(Document)
    kit.documents.rename(document.id, "規程.txt")
    kit.documents.tag(document.id, ["人事"], dated="2026-04-01")
    kit.documents.share("default")
    kit.documents.rename_collection("default", "社内")
    gate.let_through()
    adding.result(WAIT_S)
    (document,), (collection,) = kit.store.find(Document), kit.store.find(Collection)
    assert (document.state, document.name, document.tags, document.dated) == ("ready", "規程.txt", ("人事",), "2026-04-01")
    assert (collection.name, collection.shared, collection.dimensions) == ("社内", True, 16)
    adding = begin(kit.documents.add, write(tmp_path, "b.txt", "秘密の文書です。"), collection="社内", progress=False)
    kit.documents.share("社内", shared=False)
    gate.let_through()
    adding.result(WAIT_S)
    assert not kit.store.find(Collection)[0].shared


def test_documents_added_during_a_rebuild_are_not_mixed_with_it(kit: Kit, gate: Gate, begin: Callable[..., Future], tmp_path: Path) -> None:
    kit.documents.add(write(tmp_path, "a.txt", "有給休暇の申請は三日前までに行います。" * 30), progress=False)
    rebuilding = begin(kit.documents.rebuild, embedder="wide", chunk_size=100, progress=False)
    with ThreadPoolExecutor(1) as other:
        adding = other.submit(kit.documents.add, write(tmp_path, "b.txt", "出張旅費の精算は翌月までに行います。" * 30), progress=False)
        removed = kit.store.find(Document)[0].id
        gate.let_through()
        rebuilding.result(WAIT_S)
        adding.result(WAIT_S)
    assert {each.state for each in kit.store.find(Document)} == {"ready"} and kit.store.find(Collection)[0].embedder == "wide"
    check_whole(kit)
    assert max(len(each.text) for each in kit.store.find(Chunk)) <= 100
    assert {source.document for source in kit.documents.search("出張旅費の精算", mode="lexical")} == {"b.txt"}
    rebuilding = begin(kit.documents.rebuild, embedder="far", progress=False)
    kit.documents.remove(removed)
    gate.let_through()
    rebuilding.result(WAIT_S)
    assert kit.store.get(Document, removed) is None and kit.store.find(Collection)[0].embedder == "far"
    check_whole(kit)


def test_a_search_during_a_rebuild_is_right_or_says_so(kit: Kit, gate: Gate, begin: Callable[..., Future]) -> None:
    kit.documents.add_texts({f"{number}": f"第{number}条 有給休暇の申請は三日前までに行います。" for number in range(300)})
    seen, over = [], threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                seen.append(len(kit.documents.search("有給休暇の申請", k=5)))
            except IndexRebuilding:
                seen.append(5)

    with ThreadPoolExecutor(1) as other:
        asking = other.submit(ask)
        try:
            for _ in range(3):
                kit.documents.rebuild(progress=False)
        finally:
            over.set()
        asking.result(WAIT_S)
    assert seen and set(seen) == {5}


def test_a_page_left_out_while_the_document_is_read_again(kit: Kit, gate: Gate, begin: Callable[..., Future], tmp_path: Path) -> None:
    table = kit.documents.add(write(tmp_path, "a.csv", "項目,上限\n宿泊費,12000円\n"), progress=False)
    id = table["id"][0]
    again = begin(kit.documents.reread, id)
    with ThreadPoolExecutor(1) as other:
        dropping = other.submit(kit.documents.drop_pages, id, [])
        gate.let_through()
        again.result(WAIT_S)
        dropping.result(WAIT_S)
    assert kit.store.get(Document, id).generation == 3
    check_whole(kit)
    assert kit.documents.search("宿泊費", mode="lexical")


def test_the_same_file_dropped_twice_at_once_is_one_document(kit: Kit, gate: Gate, pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    paths = [write(tmp_path, f"{number}.txt", f"文書{number}番の本文です。") for number in range(20)]
    start = threading.Barrier(4)

    def add() -> None:
        start.wait(WAIT_S)
        kit.documents.add(paths, progress=False)

    for each in [pool.submit(add) for _ in range(4)]:
        each.result(WAIT_S)
    assert kit.store.count(Collection) == 1 and sorted(each.name for each in kit.store.find(Document)) == sorted(path.name for path in paths)
    assert {each.state for each in kit.store.find(Document)} == {"ready"}
    check_whole(kit)


def test_texts_of_one_name_at_once_are_one_document(kit: Kit, pool: ThreadPoolExecutor) -> None:
    start = threading.Barrier(4)

    def add(number: int) -> None:
        start.wait(WAIT_S)
        kit.documents.add_text(f"{number}番の本文です。", name="memo", collection="覚書")

    for each in [pool.submit(add, number) for number in range(4)]:
        each.result(WAIT_S)
    assert kit.store.count(Collection) == kit.store.count(Document) == 1
    check_whole(kit)


def test_a_file_kept_for_a_document_that_goes_and_one_that_comes(kit: Kit, pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", "有給休暇は十日です。")
    kit.documents.add(path, collection="一", progress=False)
    for round_ in range(10):
        (old,) = kit.store.find(Document)
        going = pool.submit(kit.documents.remove, old.id)
        table = kit.documents.add(path, collection=f"次{round_}", progress=False)
        going.result(WAIT_S)
        assert table["state"][0] == "ready", table["reason"][0]
        assert len(files_kept(kit)) == 1


def test_an_embedder_that_fails_leaves_what_a_second_try_finishes(kit: Kit, gate: Gate, tmp_path: Path) -> None:
    paths = [write(tmp_path, f"{number}.txt", f"文書{number}番の本文です。") for number in range(3)]
    gate.down = True
    with pytest.raises(EndpointError):
        kit.documents.add(paths, tags=["先"], progress=False)
    gate.down = False
    assert list(kit.documents.add(paths, tags=["後"], progress=False)["state"]) == ["ready"] * 3
    assert len(kit.documents.table()) == 3 and {each.tags for each in kit.store.find(Document)} == {("後",)}
    check_whole(kit)


def test_what_one_collection_lacks_does_not_hold_up_the_others(kit: Kit, gate: Gate, tmp_path: Path) -> None:
    gate.down = True
    for name in ("甲", "乙"):
        with pytest.raises(EndpointError):
            kit.documents.add(write(tmp_path, f"{name}.txt", f"{name}の本文です。"), collection=name, participant=name, progress=False)
    gate.down = False
    first = kit.store.find(Collection, name="甲")[0]
    with kit.store.change() as change:
        change.put(Collection(**{**first.__dict__, "embedder": "gone"}))
    assert [step.document.name for step in kit.documents.resume()] == ["乙.txt"]
    assert {each.name: each.state for each in kit.store.find(Document)} == {"甲.txt": "waiting", "乙.txt": "ready"}


def test_an_interrupt_lets_go_of_what_was_under_way(kit: Kit, tmp_path: Path) -> None:
    paths = [write(tmp_path, f"{number:02}.txt", f"文書{number}番の本文です。") for number in range(40)]

    def interrupt(done: int, total: int, seconds_left: float | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as held:  # as a notebook does, `held` keeps the traceback and with it every frame
        kit.documents.add(paths, progress=interrupt)
    assert set(kit.documents.add(paths, progress=False)["state"]) == {"ready"}
    assert len(kit.documents.table()) == 40 and held.value is not None


def test_closing_in_the_middle_gives_the_workspace_to_the_next(gate: Gate, begin: Callable[..., Future], tmp_path: Path) -> None:
    first = open_with(tmp_path / "workspace", gate)
    adding = begin(first.documents.add, write(tmp_path, "a.txt", "有給休暇は十日です。"), progress=False)
    first.close()
    gate.let_through()
    with pytest.raises(Cancelled):
        adding.result(WAIT_S)
    with open_with(tmp_path / "workspace", gate) as second:
        list(second.documents.resume())
        assert [each.state for each in second.store.find(Document)] == ["ready"]
        assert second.documents.search("有給休暇")
        check_whole(second)


def test_a_cancel_is_heard_while_a_long_document_is_embedded(kit: Kit, gate: Gate, begin: Callable[..., Future], tmp_path: Path) -> None:
    cancel = threading.Event()
    long = "".join(f"第{number}条　有給休暇の申請は{number}日前までに行います。\n" * 5 for number in range(3000))
    adding = begin(kit.documents.add, write(tmp_path, "a.txt", long), progress=False, cancel=cancel)
    cancel.set()
    gate.let_through()
    adding.result(WAIT_S)
    assert kit.store.count(Document) == 0 and not files_kept(kit)


def test_cancelling_one_of_two_who_add_the_same_file(kit: Kit, gate: Gate, begin: Callable[..., Future], tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", "有給休暇は十日です。")
    adding = begin(kit.documents.add, path, progress=False)
    cancel = threading.Event()
    cancel.set()
    kit.documents.add(path, progress=False, cancel=cancel)
    gate.let_through()
    assert adding.result(WAIT_S)["state"][0] == "ready"


def test_a_collection_removed_while_files_are_received(kit: Kit, tmp_path: Path) -> None:
    kit.documents.shelves.open("default", "local")

    home = kit.documents.shelves.get("default", "local")
    kit.documents.remove_collection("default")
    with pytest.raises(UnknownName):
        kit.documents._intake._receiving.receive([Incoming("a.txt", write(tmp_path, "a.txt", "本文です。"))], home, wanted="ready", options={})
    assert kit.store.count(Document) == 0 and not files_kept(kit)


def test_a_name_that_is_taken_at_the_same_moment(kit: Kit, pool: ThreadPoolExecutor) -> None:
    start = threading.Barrier(4)

    def open_one() -> str:
        start.wait(WAIT_S)
        return kit.documents.shelves.open(" 規程　", "local").id

    assert len({each.result(WAIT_S) for each in [pool.submit(open_one) for _ in range(4)]}) == 1
    assert kit.documents.shelves.get("規程 ", "local").name == "規程"

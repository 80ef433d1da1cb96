"""Documents from the outside: taken in, searched, changed, removed, and what is left after each."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import threading
import unicodedata
import zipfile
from pathlib import Path

import pytest

from llmops_kit import open_kit
from llmops_kit.documents.files import Incoming, hash_file
from llmops_kit.errors import AccessDenied, InputError, InvalidValue, SettingError, UnknownName, WorkspaceError
from llmops_kit.kit import Kit
from llmops_kit.types import Chunk, Collection, Document, Page

RULES = "# 就業規則\n\n## 休暇\n\n有給休暇は入社から6か月後に10日付与します。上限は20日です。\n\n## 給与\n\n給与は毎月25日に支払います。\n"
GUIDE = "Travel policy\n\nHotels may cost up to 120 euros a night. Expenses are refunded within thirty days.\n"


@pytest.fixture
def kit(tmp_path: Path):
    with open_kit(tmp_path / "workspace") as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "社内文書"
    place.mkdir()
    (place / "就業規則.md").write_text(RULES, encoding="utf-8")
    (place / "travel.txt").write_text(GUIDE, encoding="utf-8")
    (place / "経費.csv").write_text("項目,上限\n宿泊費,12000円\n日当,3000円\n", encoding="cp932")
    return place


def files_kept(kit: Kit) -> list[Path]:
    return [path for path in (kit.settings.documents_folder / "files").rglob("*") if path.is_file()]


def find_texts(kit: Kit, query: str, **options: object) -> list[str]:
    return [source.text for source in kit.documents.search(query, **options)]


def test_a_folder_is_taken_in_and_found_in_every_mode(kit: Kit, folder: Path) -> None:
    table = kit.documents.add(folder)
    assert list(table["state"]) == ["ready"] * 3, table["reason"].tolist()
    assert set(table["name"]) == {"社内文書/就業規則.md", "社内文書/travel.txt", "社内文書/経費.csv"}
    for mode in ("hybrid", "lexical", "dense"):
        best = kit.documents.search("有給休暇は何日ですか", mode=mode)[0]
        assert best.document == "社内文書/就業規則.md" and "10日付与" in best.text
    assert "120 euros" in find_texts(kit, "How much may a hotel cost?")[0]
    assert "宿泊費" in find_texts(kit, "宿泊費の上限")[0]


def test_a_word_of_two_characters_is_found(kit: Kit, folder: Path) -> None:
    kit.documents.add(folder)
    assert "有給" in find_texts(kit, "有給", mode="lexical")[0]
    assert kit.documents.findable("有給")


def test_offsets_point_into_the_text_and_chunks_join_to_it(kit: Kit, folder: Path) -> None:
    kit.documents.add(folder)
    for source in kit.documents.search("休暇 給与", k=10):
        text = kit.documents.text(source.document_id)
        assert text[source.start : source.end] == source.text
    for document in kit.store.find(Document):
        chunks = kit.store.find(Chunk, document_id=document.id, newest_first=False)
        assert "".join(chunk.text for chunk in chunks) == kit.documents.text(document.id)


def test_unchanged_files_are_left_out_and_changed_ones_replaced(kit: Kit, folder: Path) -> None:
    kit.documents.add(folder)
    before = {document.id for document in kit.store.find(Document)}
    again = kit.documents.add(folder)
    assert all("unchanged" in reason for reason in again["reason"]) and {document.id for document in kit.store.find(Document)} == before
    (folder / "travel.txt").write_text(GUIDE.replace("120", "150"), encoding="utf-8")
    kit.documents.add(folder)
    assert len(kit.documents.table()) == 3 and len(files_kept(kit)) == 3
    found = " ".join(find_texts(kit, "hotel euros a night", k=10))
    assert "150 euros" in found and "120 euros" not in found


def test_the_same_bytes_under_another_name_are_named_and_left_out(kit: Kit, folder: Path) -> None:
    shutil.copy(folder / "travel.txt", folder / "copy.txt")
    table = kit.documents.add(folder).set_index("name")
    assert "copy.txt" in table.loc["社内文書/travel.txt", "reason"] and len(kit.documents.table()) == 3


def test_a_removed_document_leaves_no_trace(kit: Kit, folder: Path) -> None:
    kit.documents.add(folder)
    gone = next(document for document in kit.store.find(Document) if document.name.endswith("travel.txt"))
    kept = kit.settings.documents_folder / "files" / gone.sha256[:2] / gone.sha256
    assert kept.is_file()
    kit.documents.remove(gone.id)
    assert not kept.exists() and not any("euros" in text for text in find_texts(kit, "hotel euros", k=50))
    assert not kit.store.find(Chunk, document_id=gone.id) and not kit.store.find(Page, document_id=gone.id)
    kit.close()
    raw = b"".join(path.read_bytes() for path in kit.settings.workspace.rglob("*") if path.is_file() and path.name != "data_level0.bin")
    assert b"euros a night" not in raw


def test_a_removed_collection_leaves_no_trace(kit: Kit, folder: Path) -> None:
    kit.documents.add(folder, collection="規程")
    kit.documents.remove_collection("規程")
    assert not kit.store.find(Collection) and not kit.store.find(Chunk) and not files_kept(kit)
    with pytest.raises(UnknownName):
        kit.documents.search("休暇", collection="規程")


def test_filters_narrow_the_search(kit: Kit, folder: Path) -> None:
    kit.documents.add(folder / "就業規則.md", tags=["規程", "人事"], dated="2026-04-01")
    kit.documents.add(folder / "travel.txt", tags=["travel"], dated="2025-01-01")
    assert {source.document for source in kit.documents.search("days 日", k=20, tags=["人事"])} == {"就業規則.md"}
    assert {source.document for source in kit.documents.search("days 日", k=20, file="TRAVEL")} == {"travel.txt"}
    assert {source.document for source in kit.documents.search("days 日", k=20, since="2026-01-01")} == {"就業規則.md"}
    assert {source.document for source in kit.documents.search("days 日", k=20, until="2025-12-31")} == {"travel.txt"}
    assert kit.documents.search("days 日", tags=["nothing"]) == []
    with pytest.raises(InvalidValue, match="2026/4/1"):
        kit.documents.search("休暇", since="2026/4/1")


def test_a_look_comes_before_the_index(kit: Kit, folder: Path) -> None:
    table = kit.documents.add(folder / "就業規則.md", review=True)
    id = table["id"][0]
    assert table["state"][0] == "read" and kit.documents.search("有給休暇") == []
    pages = kit.documents.pages(id)
    assert pages["characters"].sum() > 20 and pages["japanese_share"][0] > 0.5
    assert kit.documents.index(id)["state"][0] == "ready"
    assert find_texts(kit, "有給休暇")


def test_left_out_pages_are_not_searched_and_come_back(kit: Kit, tmp_path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    for number, (title, row) in enumerate([("旅費", ["宿泊費", "12000円"]), ("備品", ["椅子", "30000円"])]):
        sheet = book.active if number == 0 else book.create_sheet()
        sheet.title = title
        sheet.append(["項目", "金額"])
        sheet.append(row)
    book.save(tmp_path / "表.xlsx")
    id = kit.documents.add(tmp_path / "表.xlsx")["id"][0]
    assert any("椅子" in text for text in find_texts(kit, "椅子"))
    kit.documents.drop_pages(id, [2])
    assert kit.documents.reread(id)["state"][0] == "ready"  # and stay left out
    assert not any("椅子" in text for text in find_texts(kit, "椅子")) and any("宿泊費" in text for text in find_texts(kit, "宿泊費"))
    assert kit.documents.drop_pages(id, [1, 2])["state"][0] == "quarantined" and kit.documents.search("宿泊費") == []
    kit.documents.drop_pages(id, [])
    assert any("椅子" in text for text in find_texts(kit, "椅子"))
    with pytest.raises(InvalidValue, match="7"):
        kit.documents.drop_pages(id, [7])


def test_a_doubtful_encoding_is_asked_about(kit: Kit, tmp_path: Path) -> None:
    french = "Les élèves rendent les livres empruntés avant la fin du mois."
    (tmp_path / "doubtful.txt").write_bytes(french.encode("latin-1"))
    table = kit.documents.add(tmp_path / "doubtful.txt")
    assert table["state"][0] == "asks" and "cp1252" in table["reason"][0] and kit.documents.search("élèves") == []
    assert kit.documents.reread(table["id"][0], encoding="utf-8")["state"][0] == "quarantined"
    again = kit.documents.reread(table["id"][0], encoding="cp1252")
    assert again["state"][0] == "ready", again["reason"][0]
    assert kit.documents.text(table["id"][0]).strip() == french and find_texts(kit, "élèves")


def test_two_encodings_in_one_file_are_never_read_as_one(kit: Kit, tmp_path: Path) -> None:
    (tmp_path / "mixed.txt").write_bytes("有給休暇の申請\n".encode("cp932") + "経費の精算\n".encode("euc_jp"))
    assert kit.documents.add(tmp_path / "mixed.txt")["state"][0] == "quarantined"


def test_a_zip_becomes_its_members(kit: Kit, folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "文書.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    table = kit.documents.add(tmp_path / "文書.zip")
    assert set(table["name"]) == {"文書.zip/就業規則.md", "文書.zip/travel.txt", "文書.zip/経費.csv"}
    assert find_texts(kit, "有給休暇")
    assert not list((kit.settings.documents_folder / "files").glob("unpacked/*"))


def test_pasted_texts_and_bad_ones(kit: Kit) -> None:
    kit.documents.add_text(RULES, name="貼り付け")
    assert kit.documents.table()["name"][0] == "貼り付け.txt"
    for text, name in (("", "x"), ("  \n", "x"), ("text", " ")):
        with pytest.raises(InvalidValue):
            kit.documents.add_text(text, name=name)


def test_what_is_not_there_is_said(kit: Kit, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "nothing.pdf", tmp_path / "empty"):
        with pytest.raises(InputError, match=path.name):
            kit.documents.add(path)
    for call in (lambda: kit.documents.search("x"), lambda: kit.documents.pages("nobody"), lambda: kit.documents.remove("nobody")):
        with pytest.raises(UnknownName):
            call()
    kit.documents.add_text(RULES, name="rules")
    for options in ({"mode": "semantic"}, {"k": 0}, {"k": 1000}):
        with pytest.raises(InvalidValue):
            kit.documents.search("休暇", **options)
    assert kit.documents.search("   ") == []
    with pytest.raises(InvalidValue, match="acrobat"):
        kit.documents.add_texts({"a": "b"}) is None or kit.documents.add(tmp_path, reader="acrobat")


def test_too_large_files_and_too_many_bytes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "big.txt").write_text("あ" * 500_000, encoding="utf-8")
    (tmp_path / "small.txt").write_text(RULES, encoding="utf-8")
    with open_kit(tmp_path / "workspace", max_upload_mb=1, max_documents_mb=2) as kit:
        table = kit.documents.add([tmp_path / "big.txt", tmp_path / "small.txt"]).set_index("name")
        assert table.loc["big.txt", "state"] == "quarantined" and "1 MB" in table.loc["big.txt", "reason"]
        assert table.loc["small.txt", "state"] == "ready"
    with open_kit(tmp_path / "workspace", max_documents_mb=1) as kit, pytest.raises(InputError, match="MB"):
        kit.documents.add(tmp_path / "big.txt")


def test_collections_belong_to_people_and_can_be_shared(kit: Kit, folder: Path) -> None:
    kit.documents.add(folder / "就業規則.md", participant="hanako")
    id = kit.documents.table(participant="hanako")["id"][0]
    for act in (lambda: kit.documents.search("休暇", participant="taro"), lambda: kit.documents.pages(id, participant="taro")):
        with pytest.raises(UnknownName):
            act()
    shared = kit.documents.share("default", participant="hanako")
    assert kit.documents.search("有給休暇", collection=shared.id, participant="taro")
    assert len(kit.documents.pages(id, participant="taro")) == 1
    for act in (
        lambda: kit.documents.remove(id, participant="taro"),
        lambda: kit.documents.rename(id, "x", participant="taro"),
        lambda: kit.documents.add(folder / "travel.txt", collection=shared.id, participant="taro"),
        lambda: kit.documents.remove_collection(shared.id, participant="taro"),
    ):
        with pytest.raises(AccessDenied):
            act()
    kit.documents.add_text("太郎のメモです。", name="memo", participant="taro")  # a collection named "default" of his own
    assert {source.document for source in kit.documents.search("メモ", participant="taro")} == {"memo.txt"}
    assert "memo.txt" not in {source.document for source in kit.documents.search("メモ", participant="hanako")}


def test_renaming(kit: Kit, folder: Path) -> None:
    kit.documents.add(folder)
    id = kit.documents.table()["id"][0]
    kit.documents.rename(id, "新しい名前 🎉.md")
    assert "新しい名前 🎉.md" in set(kit.documents.table()["name"])
    kit.documents.rename_collection("default", "社内規程")
    assert kit.documents.search("有給休暇", collection="社内規程")
    kit.documents.add_text("x y z", name="n", collection="別")
    with pytest.raises(InvalidValue):
        kit.documents.rename_collection("別", "社内規程")


def test_export_holds_files_table_and_chunks(kit: Kit, folder: Path, tmp_path: Path) -> None:
    kit.documents.add(folder)
    kit.documents.rename(kit.documents.table()["id"][0], "../../evil.md")
    archive = zipfile.ZipFile(kit.documents.export("default", tmp_path / "out.zip"))
    names = archive.namelist()
    assert not any(name.startswith(("/", "..")) or "/../" in name for name in names)
    assert archive.read("documents.csv").startswith(b"\xef\xbb\xbf")
    lines = [json.loads(line) for line in archive.read("chunks.jsonl").decode().splitlines()]
    assert any("有給休暇" in line["text"] for line in lines) and len([name for name in names if name.startswith("files/")]) == 3


def test_a_collection_is_rebuilt_with_another_chunk_size(kit: Kit, folder: Path) -> None:
    kit.documents.add_text("有給休暇の申請は三日前までに行います。" * 60, name="long")
    before = kit.store.count(Chunk)
    rebuilt = kit.documents.rebuild(chunk_size=100, progress=False)
    assert rebuilt.chunker.endswith(":100") and kit.store.count(Chunk) > 2 * before
    chunks = kit.store.find(Chunk, newest_first=False)
    assert "".join(chunk.text for chunk in chunks) == kit.documents.text(chunks[0].document_id)
    assert len({chunk.position for chunk in chunks}) == len(chunks)
    assert find_texts(kit, "有給休暇の申請")
    with pytest.raises(InvalidValue, match="10"):
        kit.documents.rebuild(chunk_size=10)


def test_another_embedder_is_told_and_never_mixed(kit: Kit, folder: Path) -> None:
    kit.documents.add(folder / "travel.txt")
    collection = kit.store.find(Collection)[0]
    with kit.store.change() as change:
        change.put(Collection(**{**collection.__dict__, "embedder_revision": "an older one"}))
    for act in (lambda: kit.documents.search("hotel"), lambda: kit.documents.add(folder / "就業規則.md")):
        with pytest.raises(InvalidValue, match="rebuild"):
            act()
    assert kit.documents.search("hotels", mode="lexical")
    kit.documents.rebuild(progress=False)
    assert kit.documents.search("hotel") and kit.documents.add(folder / "就業規則.md")["state"][0] == "ready"


def test_cancelling_keeps_what_is_ready_and_puts_the_rest_away(kit: Kit, tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}.txt").write_text(f"文書{number}番の本文です。", encoding="utf-8")
    cancel = threading.Event()

    def stop(done: int, total: int, seconds_left: float | None) -> None:
        if done >= 5:
            cancel.set()

    kit.documents.add(sorted(tmp_path.glob("*.txt")), progress=stop, cancel=cancel)
    table = kit.documents.table()
    assert set(table["state"]) <= {"ready"} and 5 <= len(table) <= 40
    assert len(files_kept(kit)) == len(table)
    assert list(kit.documents.resume()) == []
    kit.documents.add(sorted(tmp_path.glob("*.txt")), progress=False)
    assert len(kit.documents.table()) == 40


def test_what_a_kill_left_waiting_goes_on(kit: Kit, folder: Path) -> None:
    kit.documents.add(folder / "就業規則.md")
    document = kit.store.find(Document)[0]
    file = folder / "travel.txt"
    sha256, size = kit.documents.retrieval.files.keep(file)
    waiting = Document("w", document.created_at, document.collection_id, "local", file.name, sha256, size)
    with kit.store.change() as change:
        change.put(waiting)
    assert sha256 == hash_file(file)
    (step,) = kit.documents.resume()
    assert step.document.state == "ready" and "120 euros" in find_texts(kit, "hotel euros")[0]


def test_a_second_process_is_told(kit: Kit, folder: Path) -> None:
    kit.documents.add(folder)
    script = (
        "import sys\nfrom llmops_kit import open_kit\nfrom llmops_kit.errors import WorkspaceError\n"
        f"kit = open_kit({str(kit.settings.workspace)!r})\nassert len(kit.documents.table()) == 3\n"
        "try:\n    kit.documents.search('休暇')\nexcept WorkspaceError as error:\n    print(error.text('ja'))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "別のプロセス" in done.stdout and "pid" in done.stdout
    kit.close()
    again = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert again.stdout == ""


def test_a_workspace_that_cannot_be_written_says_so(tmp_path: Path, folder: Path) -> None:
    with open_kit(tmp_path / "workspace") as kit:
        (tmp_path / "workspace" / "documents").write_text("a file in the way")
        with pytest.raises(WorkspaceError, match="documents"):
            kit.documents.add(folder)


def test_rows_in_sqlite_are_what_the_design_says(kit: Kit, folder: Path) -> None:
    kit.documents.add(folder)
    with sqlite3.connect(kit.settings.workspace / "kit.sqlite") as connection:
        held = connection.execute("select count(*), sum(length(vector)) from chunks").fetchone()
    collection = kit.store.find(Collection)[0]
    assert held[1] == held[0] * collection.dimensions * 2


def test_of_two_files_of_one_name_the_unchanged_one_stays(kit: Kit, tmp_path: Path) -> None:
    paths = [tmp_path / place / "報告.txt" for place in ("東京", "大阪")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(f"{path.parent.name}の報告です。", encoding="utf-8")
    kit.documents.add(paths)
    paths[0].write_text("東京の新しい報告です。", encoding="utf-8")
    kit.documents.add(paths)
    found = " ".join(find_texts(kit, "報告", k=10, mode="lexical"))
    assert len(kit.documents.table()) == 2 and "大阪の報告" in found and "新しい" in found and "東京の報告" not in found


def test_an_unchanged_folder_needs_no_more_room(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("あ" * 200_000, encoding="utf-8")
    with open_kit(tmp_path / "workspace", max_documents_mb=1) as kit:
        assert kit.documents.add(tmp_path / "a.txt")["state"][0] == "ready"
        assert "unchanged" in kit.documents.add(tmp_path / "a.txt")["reason"][0]
        (tmp_path / "a.txt").write_text("い" * 200_000, encoding="utf-8")
        assert kit.documents.add(tmp_path / "a.txt")["state"][0] == "ready" and len(files_kept(kit)) == 1
        (tmp_path / "b.txt").write_text("う" * 200_000, encoding="utf-8")
        with pytest.raises(InputError, match="1 MB"):
            kit.documents.add(tmp_path / "b.txt")
        assert len(files_kept(kit)) == kit.store.count(Document) == 1


def test_a_file_that_is_gone_holds_up_no_other(kit: Kit, folder: Path) -> None:
    incoming = [Incoming("gone.txt", folder / "gone.txt"), Incoming("gone.zip", folder / "gone.zip"), Incoming("travel.txt", folder / "travel.txt")]
    table = kit.documents.add(incoming).set_index("name")
    assert table.loc["travel.txt", "state"] == "ready"
    for name in ("gone.txt", "gone.zip"):
        assert table.loc[name, "state"] == "quarantined" and name in table.loc[name, "reason"] and "読めません" in table.loc[name, "reason"]


def test_an_answer_given_with_the_file_is_taken(kit: Kit, tmp_path: Path) -> None:
    (tmp_path / "doubtful.txt").write_bytes("Les élèves rendent les livres empruntés avant la fin du mois.".encode("latin-1"))
    asked = kit.documents.add(tmp_path / "doubtful.txt")
    again = kit.documents.add(tmp_path / "doubtful.txt")
    assert list(again["id"]) == list(asked["id"]) and again["state"][0] == "asks" and "cp1252" in again["reason"][0]
    assert kit.documents.add(tmp_path / "doubtful.txt", encoding="cp1252")["state"][0] == "ready"
    assert len(kit.documents.table()) == 1 and find_texts(kit, "élèves")


def test_a_broken_file_given_again_is_there_once(kit: Kit, tmp_path: Path) -> None:
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing more")
    for _ in range(3):
        assert kit.documents.add(tmp_path / "broken.pdf")["state"][0] == "quarantined"
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7 and still nothing")
    kit.documents.add(tmp_path / "broken.pdf")
    assert len(kit.documents.table()) == len(files_kept(kit)) == 1


def test_what_a_kill_left_of_files_is_swept(tmp_path: Path, folder: Path) -> None:
    with open_kit(tmp_path / "workspace") as kit:
        kit.documents.add(folder / "travel.txt")
        kit.documents.retrieval.files.keep(folder / "就業規則.md")
        (kit.settings.documents_folder / "files" / "x.draft").write_text("half")
    with open_kit(tmp_path / "workspace") as kit:
        kit.documents.search("hotel")
        assert [path.name for path in files_kept(kit)] == [hash_file(folder / "travel.txt")]


def test_names_are_kept_composed(kit: Kit, tmp_path: Path) -> None:
    name = "ガイドブック.txt"
    (tmp_path / unicodedata.normalize("NFD", name)).write_text(GUIDE, encoding="utf-8")
    kit.documents.add(next(tmp_path.glob("*.txt")), collection=unicodedata.normalize("NFD", "ガイド"))
    assert kit.documents.search("hotel", collection="ガイド", file=unicodedata.normalize("NFD", "ガイド"))[0].document == name


def test_a_page_that_cannot_be_drawn_is_none(kit: Kit) -> None:
    table = kit.documents.add(Path(__file__).parent / "files" / "documents" / "pdf-user-password.pdf", password="tsukimi-42")
    assert table["state"][0] == "ready", table["reason"][0]
    assert kit.documents.page_image(table["id"][0], 1) is None
    kit.close()
    assert b"tsukimi-42" not in b"".join(path.read_bytes() for path in kit.settings.workspace.rglob("*") if path.is_file() and path.name != "data_level0.bin")


def test_a_query_is_not_a_book(kit: Kit, folder: Path) -> None:
    kit.documents.add(folder)
    for ask in (kit.documents.search, kit.documents.findable):
        with pytest.raises(InvalidValue, match="100,000"):
            ask("有給" * 5_000_000)


def test_a_setting_that_does_not_serve_is_said_each_time(tmp_path: Path, folder: Path) -> None:
    with open_kit(tmp_path / "workspace", vectors="pgvector") as kit:
        for _ in range(2):
            with pytest.raises(SettingError, match="pgvector"):
                kit.documents.add(folder)


def test_another_kit_in_the_same_process(tmp_path: Path, folder: Path) -> None:
    with open_kit(tmp_path / "workspace") as first, open_kit(tmp_path / "workspace") as second:
        opener = threading.Thread(target=first.documents.add, args=(folder,), kwargs={"progress": False})
        opener.start()
        opener.join()
        with pytest.raises(WorkspaceError, match="earlier kit"):
            second.documents.search("休暇")
        first.close()
        assert find_texts(second, "有給休暇")


def test_a_second_process_changes_nothing(kit: Kit, folder: Path) -> None:
    ids = list(kit.documents.add(folder)["id"])
    before = kit.store.find(Document), kit.store.find(Collection), kit.store.find(Chunk)
    with kit.store.change() as change:
        change.update(Document, ids[0], state="waiting")
    script = (
        "from llmops_kit import open_kit\nfrom llmops_kit.errors import WorkspaceError\n"
        f"kit, id = open_kit({str(kit.settings.workspace)!r}), {ids[1]!r}\nd = kit.documents\n"
        "acts = [lambda: d.remove(id), lambda: d.drop_pages(id, [1]), lambda: d.reread(id), lambda: d.rebuild(chunk_size=100, progress=False),\n"
        "        lambda: d.remove_collection('default'), lambda: d.index(id), lambda: list(d.resume()), lambda: d.add_text('x', name='y')]\n"
        "for act in acts:\n    try:\n        act()\n    except WorkspaceError:\n        print('told')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["told"] * 8
    with kit.store.change() as change:
        change.update(Document, ids[0], state="ready")
    assert (kit.store.find(Document), kit.store.find(Collection), kit.store.find(Chunk)) == before


def test_many_documents_after_a_look_become_ready_together(kit: Kit, tmp_path: Path) -> None:
    for number in range(60):
        (tmp_path / f"{number}.txt").write_text(f"備品番号{number:03}は倉庫にあります。" if number else "", encoding="utf-8")
    table = kit.documents.add(sorted(tmp_path.glob("*.txt")), review=True, progress=False)
    kit.documents.add_text("x", name="y")
    done = kit.documents.index([*table["id"], *table["id"][:3]])
    assert sorted(done["state"].value_counts().items()) == [("quarantined", 2), ("ready", 61)]
    assert find_texts(kit, "備品番号059", mode="lexical")


def test_chunks_have_the_ids_the_index_asks_for(kit: Kit, folder: Path) -> None:
    kit.documents.add(folder)
    id = kit.documents.table()["id"][0]
    kit.documents.reread(id)
    chunks = kit.store.find(Chunk, document_id=id, newest_first=False)
    assert chunks and [chunk.id for chunk in chunks] == [f"{id}:{place}" for place in range(len(chunks))]
    assert kit.documents.retrieval.index().check(kit.store.find(Collection)[0])


def test_a_sound_index_of_texts_from_one_template_is_not_condemned(kit: Kit) -> None:
    """Chroma's graph over these does not find one in ten from its own vector; nothing is wrong with it."""
    kit.documents.add_texts({f"{number}": f"第{number}条の休暇について。" * 3 for number in range(300)})
    assert kit.documents.retrieval.index().check(kit.store.find(Collection)[0])

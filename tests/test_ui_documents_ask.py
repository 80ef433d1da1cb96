"""What the Ask, Look-into and Evaluate sub-tabs show, without a browser: escaped text, doubts, parts of pages, and code that runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_kit import Kit
from llmops_kit.documents.evaluation import evaluate
from llmops_kit.settings import Settings
from llmops_kit.types import Document, Page, Run, Source, new_id, now
from llmops_kit.ui.documents import figures, sources
from llmops_kit.ui.documents.code import ask_code, explain_code, findable_code, measure_code
from llmops_kit.ui.documents.measuring import Measurements
from llmops_kit.ui.documents.viewing import _parts

RULES = "在宅勤務は週に3日まで認めます。有給休暇は入社から6か月で10日与えます。\n"
PASSAGE = "在宅勤務は週に3日まで認めます。"


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    """A workspace with one short document, searchable."""
    with Kit(Settings(workspace=tmp_path_factory.mktemp("ask") / "workspace")) as opened:
        opened.documents.add_text(RULES, name="規則.txt")
        yield opened


def made_run(output: str, **changes: object) -> Run:
    """A finished run on the rules."""
    source = Source("規<則.txt", RULES, None, 0.5, 0, len(RULES), "d1", "d1:0")
    run = Run(new_id(), now(), "p", "documents", "m", (), "", variables={"question": "在宅勤務は？"}, sources=(source,), output=output, finish_reason="stop")
    return dataclasses.replace(run, **changes)  # type: ignore[arg-type]


def test_a_supported_claim_has_a_number_and_an_unsupported_one_a_doubt() -> None:
    shown = sources.show_turn(made_run(f"{PASSAGE}[1]火星では金曜日に踊ります。[1]"), "在宅勤務は？", "ja", "")
    first, second = shown.split("火星", 1)
    assert "class='cite'" in first and "data-start='0'" in first and "doubt'" not in first
    assert "根拠なしの疑い" in second and "doubtful" in first.rpartition("<span")[2]


def test_nothing_of_a_model_a_document_or_a_person_is_markup() -> None:
    run = made_run(f"<img src=x>{PASSAGE}[1]", variables={"question": "<b>問い</b>", "asked": "'\"<i>"}, flags=("instructions_in_source:1",))
    shown = sources.show_turn(run, sources.question_of(run), "ja", "<u>") + sources.show_cards(run, "ja") + sources.show_plain(run, "<s>", "<u>", "ja")
    assert not any(tag in shown for tag in ("<img", "<b>", "<i>", "<u>", "<s>", "規<則"))
    assert "検索に使った質問：&lt;b&gt;" in shown and "指示文らしきもの" in shown


def test_an_answer_that_is_not_there_claims_nothing() -> None:
    shown = sources.show_turn(made_run("資料には見つかりません。", flags=("not_in_documents",)), "？", "ja", "")
    assert "文書には見つかりません" in shown and "cite" not in shown and "doubtful" not in shown


def test_marks_are_cut_where_they_overlap_and_never_leave_the_text() -> None:
    assert sources.mark("a<b>c", [(0, 2), (1, 3), (4, 99)]) == "<mark>a&lt;</mark><mark>b</mark>&gt;<mark>c</mark>"


@pytest.mark.parametrize("line", ["一行です。\n", "長い一行" * 5000 + "\n"])
def test_the_parts_of_a_long_text_join_to_the_whole(line: str) -> None:
    text = line * (1 if len(line) > 100 else 4000)
    pages = [Page("d:1", "d", 1, text), Page("d:2", "d", 2, "短い。\n")]
    document = Document("d", now(), "c", "p", "x.txt", "0", 1, kind="txt")
    parts = _parts(document, pages)
    whole = text + "短い。\n"
    assert "".join(whole[part.start : part.end] for part in parts) == whole and len(parts) > 3
    assert all(part.end - part.start <= 6000 for part in parts) and parts[-1].page == 2
    assert [part.page for part in _parts(dataclasses.replace(document, kind="pdf"), pages)] == [1, 2]


def test_the_code_shown_runs_and_gives_the_same(kit: Kit, tmp_path: Path) -> None:
    workspace, found = kit.settings.workspace, kit.documents.shelves.get("default", "local")
    kit.close()  # the documents belong to one process at a time: the snippet opens its own kit
    rows = tmp_path / "questions.csv"
    rows.write_text(f"question,passage\n在宅勤務は週に何日？,{PASSAGE}\n", encoding="utf-8")
    snippets = {
        "run": ask_code(workspace, "在宅勤務は週に何日できますか？", found, ("me", "local"), mode="lexical", k=3, file="規則", tags=(), since=None),
        "explained": explain_code(workspace, "在宅勤務は？", PASSAGE, found, ("me", "local")),
        "found": findable_code(workspace, "有給", found, ("me", "local")),
        "report": measure_code(workspace, "evaluate", str(rows), found, ("me", "local"), modes=["hybrid"], model=""),
    }
    results = {}
    for name, code in snippets.items():
        assert "participant" not in code and "tags" not in code
        scope: dict[str, object] = {}
        exec(compile(code, name, "exec"), scope)
        results[name] = scope[name]
        scope["kit"].close()  # type: ignore[attr-defined]
    assert "3日" in results["run"].output and results["explained"].reached_prompt  # type: ignore[attr-defined]
    assert results["found"].chunks == 1 and results["report"].counted == 1  # type: ignore[attr-defined]


def test_a_collection_a_notebook_would_not_see_is_named_with_its_person() -> None:
    from llmops_kit.types import Collection

    mine = Collection("c", now(), "me", "default")
    assert "participant='me'" in ask_code(Path("w"), "？", mine, ("me", "local"))
    assert "participant='me'" in ask_code(Path("w"), "？", mine, ("me",))
    assert "participant" not in ask_code(Path("w"), "？", dataclasses.replace(mine, shared=True, owner="other"), ("me", "local"))
    assert "participant" not in ask_code(Path("w"), "？", dataclasses.replace(mine, owner="local"), ("me", "local"))


def test_figures_say_n_and_intervals_and_escape(settings: Settings) -> None:
    with Kit(settings) as kit:
        kit.documents.add_text(RULES, name="<b>規則.txt")
        asked = [{"question": "<i>在宅勤務", "passage": PASSAGE}, {"question": "月", "passage": "月は岩でできています"}]
        report = evaluate(kit.documents, asked, collection="default", modes=("hybrid", "lexical"), progress=False)
    shown = figures.show_report(report, "ja")
    assert "n = 1" in shown and "1.00" in shown and "(0.21–1.00)" in shown and "verdict grey" in shown
    assert "1問は、正解の文が文書にないか" in shown and "<b>規則" not in shown and "<i>" not in shown
    table = figures.rows_table(report, "en")
    assert list(table["Hybrid"]) == ["1", ""] and list(table["State"]) == ["measured", "not in the documents"]


def test_one_measurement_at_a_time_is_cancelled_by_its_person() -> None:
    from llmops_kit.errors import Cancelled, InputError

    def work(job: object) -> None:
        assert job.cancel.wait(30)  # type: ignore[attr-defined]
        raise Cancelled

    measurements = Measurements()
    job = measurements.start("a", "evaluate", work)
    with pytest.raises(InputError):
        measurements.start("a", "evaluate", work)
    assert measurements.of("b") is None
    other = measurements.start("b", "evaluate", work)
    job.cancel.set()
    assert job.ended.wait(30) and job.error is None and job.result is None and not other.ended.is_set()
    other.cancel.set()
    assert other.ended.wait(30) and measurements.start("a", "x", lambda job: 1).ended.wait(30)

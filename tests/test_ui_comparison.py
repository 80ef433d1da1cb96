"""The Compare tab without a browser: nothing tells a name before the vote, grey is what is not established, and the code it shows runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from llmops_kit import open_kit
from llmops_kit.comparison.plan import make_plan, plan_from_spec
from llmops_kit.comparison.variants import Variant, read_variants
from llmops_kit.errors import AccessDenied, InputError
from llmops_kit.kit import Kit
from llmops_kit.playground.rows import read_rows
from llmops_kit.types import Comparison, Run, Vote, new_id, now
from llmops_kit.ui.comparison import charts, choosing, code, duel, example, items, marking, ranking, results, showing, variants
from llmops_kit.ui.comparison.desk import SHOWN, Desk
from llmops_kit.ui.text import language_of
from tests.test_ui import run_snippet

NAMES = ("secret-one", "secret-<other>")


@dataclass
class Person:
    """What handlers use of a Gradio request."""

    username: str = "me"
    headers: dict[str, str] = field(default_factory=lambda: {"accept-language": "ja"})
    cookies: dict[str, str] = field(default_factory=dict)


ME, OTHER = Person(), Person("other")


@pytest.fixture
def kit(workspace: Path) -> Iterator[Kit]:
    with open_kit(workspace, local_threads=1) as opened:
        yield opened


def make_comparison(kit: Kit, n: int = 3, *, owner: str = "me", **spec: Any) -> Comparison:
    """A finished comparison of two variants on `n` items, as a test set leaves it."""
    rows = [{"sources": "<b>資料</b>", "question": f"質問{number}？", "expected": f"答え{number}"} for number in range(1, n + 1)]
    named = read_variants([Variant("starter-lm", label=NAMES[0]), Variant("starter-reader", label=NAMES[1])])
    plan = make_plan(example.PROMPT, named, rows, {}, kit.prompts)
    made = Comparison(new_id(), now(), owner, {**plan.spec(), **spec})
    kit.store.append(made)
    for cell in plan.cells():
        item, variant = plan.items[cell.item], plan.variants[cell.variant]
        said = f"答え{item.id}" if cell.variant == 0 else f"<i>別の答え</i>{item.id}です。"
        run = Run(plan.run_id(made.id, cell, 0), now(), owner, f"compare:{made.id}", variant.model, (), "", prompt_name=example.PROMPT)
        kit.store.append(
            replace(run, variables=item.variables, output=said, finish_reason="stop", item=item.id, variant=variant.name, latency_s=0.5, output_tokens=5)
        )
    return made


def shown(updates: list[Any]) -> dict[str, Any]:
    return dict(zip(SHOWN, updates, strict=True))


def press(kit: Kit, desk: Desk, state: dict[str, Any], *, choice: Any = "A", person: Person = ME, sent: str | None = None) -> dict[str, Any]:
    """Vote as the button does, on the pair that `state` holds."""
    vote = duel._on_vote(kit, desk, choice)
    return shown(vote(person, comparison="", duel=state, shown=state.get("id", "") if sent is None else sent))


# --- the blind duel


def test_nothing_tells_a_name_before_the_vote_and_the_names_come_with_it(kit: Kit) -> None:
    made, desk = make_comparison(kit), Desk(kit)
    asked = shown(desk.draw(ME, made.id))
    seen = repr({name: value for name, value in asked.items() if name != "duel"}) + choosing.title(kit, made, "ja")
    ids = [run.id for run in kit.comparison.runs(made.id)]
    assert not any(secret in seen for secret in ("secret", "starter", "0.50", *ids))
    assert "&lt;b&gt;資料" in asked["question"] and "質問" in asked["question"] and "&lt;i&gt;別の答え" in asked["pair"]
    told = press(kit, desk, asked["duel"])
    assert "secret-one" in told["pair"] and "secret-&lt;other&gt;" in told["pair"] and "合計0.50秒" in told["pair"]
    assert told["pair"].count("chosen") == 1 and told["after"].visible and not told["votes"].visible
    (vote,) = kit.comparison.votes(made.id)
    assert (vote.choice, vote.rater, vote.source, vote.blinded, vote.id) == ("A", "me", "ui", True, asked["duel"]["id"])


def test_a_click_that_comes_twice_or_late_changes_nothing(kit: Kit) -> None:
    desk = Desk(kit)
    make_comparison(kit)
    first = shown(desk.draw(ME, ""))["duel"]
    once, again = press(kit, desk, first), press(kit, desk, first, choice="B")
    assert [vote.choice for vote in kit.comparison.votes()] == ["A"] and "Aを選びました" in once["told"] and "Aを選びました" in again["told"]
    following = shown(desk.draw(ME, ""))["duel"]
    assert press(kit, desk, following, sent=first["id"])["pair"] == gr.skip() and len(kit.comparison.votes()) == 1
    lost = press(kit, desk, {}, sent=first["id"])  # a page that is older than the server gets a pair of its own
    assert lost["duel"]["pair"] is not None and len(kit.comparison.votes()) == 1


def test_a_vote_that_is_not_saved_says_so_and_keeps_the_pair(kit: Kit) -> None:
    desk = Desk(kit)
    make_comparison(kit)
    state = shown(desk.draw(ME, ""))["duel"]
    with kit.store._engine.connect() as connection:
        connection.exec_driver_sql("ALTER TABLE votes RENAME TO votes_away")
    with pytest.raises(gr.Error, match="保存されていません"):
        press(kit, desk, state)
    with kit.store._engine.connect() as connection:
        connection.exec_driver_sql("ALTER TABLE votes_away RENAME TO votes")
    assert state["vote"] is None and kit.comparison.votes() == []
    press(kit, desk, state)
    assert [vote.id for vote in kit.comparison.votes()] == [state["id"]]


def test_a_vote_is_taken_back_for_ten_seconds_and_the_next_one_is_not_blind(kit: Kit) -> None:
    desk = Desk(kit)
    make_comparison(kit)
    state = press(kit, desk, shown(desk.draw(ME, ""))["duel"])["duel"]
    undone = shown(duel._on_undo(kit, desk)(ME, comparison="", duel=state, shown=state["id"]))
    assert kit.comparison.votes() == [] and kit.store.count(Vote) == 2
    assert undone["duel"]["id"] != state["id"] and "secret" not in undone["pair"] and undone["duel"]["pair"] == state["pair"]
    later = press(kit, desk, undone["duel"], choice="tie")["duel"]
    assert [(vote.choice, vote.blinded) for vote in kit.comparison.votes()] == [("tie", False)]
    old = {**later, "vote": replace(later["vote"], id=new_id(), created_at=now() - timedelta(seconds=11))}
    kit.store.append(old["vote"])
    with pytest.raises(gr.Error, match="10秒"):
        duel._on_undo(kit, desk)(ME, comparison="", duel=old, shown=old["id"])


def test_everybody_votes_on_what_is_open_and_nobody_else_on_what_is_closed(kit: Kit) -> None:
    made, single = make_comparison(kit), make_comparison(kit, 1)
    assert [each.id for each in choosing.visible(kit, OTHER)] == [made.id] and len(choosing.visible(kit, ME)) == 2
    with pytest.raises(AccessDenied):
        choosing.set_open(kit, OTHER, single.id, True)
    choosing.set_open(kit, ME, single.id, True)
    choosing.set_open(kit, ME, made.id, False)
    assert [each.id for each in choosing.visible(kit, OTHER)] == [single.id]
    with pytest.raises(gr.Error):
        duel._on_next(Desk(kit))(OTHER, comparison=made.id, duel={})
    assert shown(Desk(kit).draw(OTHER, ""))["duel"]["pair"].item == f"compare:{single.id}:1"
    mine, theirs = (shown(Desk(kit).draw(person, single.id))["duel"] for person in (ME, OTHER))
    assert theirs["blind"] and not mine["blind"]  # the one who asked had the answers under their names
    with pytest.raises(InputError):
        choosing.find_comparison(kit, ME, "nothing")


def test_without_answers_or_votes_left_the_page_says_what_to_do(kit: Kit) -> None:
    desk = Desk(kit)
    empty = shown(desk.draw(ME, ""))
    assert "比べる回答がまだありません" in empty["told"] and empty["empty"].visible
    make_comparison(kit, 2)
    for _ in range(2):
        press(kit, desk, shown(desk.draw(ME, ""))["duel"])
    done = shown(desk.draw(ME, ""))
    assert "すべて投票しました" in done["told"] and "あなたの投票2件" in done["progress"] and done["duel"] == {}


# --- answers beside each other


def test_what_differs_is_marked_and_nothing_is_markup(kit: Kit) -> None:
    run = Run(new_id(), now(), "p", "a", "m", (), "", output="<b>東京</b>です。", finish_reason="stop", latency_s=1.0)
    other = replace(run, output="\n大阪です。")
    first, second = marking.show(kit, [run, other], ["one", "<u>"], "en", baseline=0, marked=True)
    assert "<mark>&lt;b&gt;東京&lt;/b&gt;</mark>です。" in first and "baseline" in first and "\n<mark>大阪</mark>です。" in second and "<u>" not in second
    assert "<mark>" not in "".join(marking.show(kit, [run, other], ["one", "two"], "en", baseline=1, marked=False))
    first, second, third = marking.show(kit, [run, other, other], ["a", "b", "c"], "en", baseline=1, marked=True)
    assert "<mark>" in first and "<mark>" not in second + third


def test_the_numbers_of_sources_are_not_shown_to_somebody_who_must_not_know_whose_answer_it_is() -> None:
    from llmops_kit.types import Source

    run = Run(new_id(), now(), "p", "a", "m", (), "", output="3日です。[1]", sources=(Source("f", "3日です。"),))
    assert "[1]" not in showing.show_blind([run, replace(run, sources=())], "ja").split("</section>")[0]


def test_variants_are_read_without_what_is_as_usual() -> None:
    given = {"model_0": "a", "documents_0": "", "version_0": "latest", "temperature_0": None}
    given |= {"model_1": "b", "documents_1": "規則", "version_1": "2", "temperature_1": 0.5}
    assert variants.read(2, given) == [{"model": "a"}, {"model": "b", "documents": "規則", "version": "2", "params": {"temperature": 0.5}}]
    with pytest.raises(InputError) as error:
        variants.read(3, given)
    assert "3番目" in error.value.text("ja")


# --- test sets


def test_rows_are_typed_or_read_from_a_file_by_the_names_of_the_variables(kit: Kit, tmp_path: Path) -> None:
    typed = items.frame(kit, example.PROMPT, [{"question": "何日？", "expected": "3日", "tags": "休暇"}], "ja")
    assert list(typed.columns)[-2:] == ["期待する回答", "タグ"] and len(typed) == items.LEAST_ROWS
    rows, _ = items.read(kit, example.PROMPT, {"file": None, "typed": typed})
    assert rows == [{"question": "何日？", "expected": "3日", "tags": "休暇"}]
    with pytest.raises(InputError):
        items.read(kit, example.PROMPT, {"file": None, "typed": typed.tail(1)})
    (tmp_path / "rows.csv").write_text("質問,資料,expected\n何日？,3日です,3日\n", encoding="cp932")
    table = read_rows(str(tmp_path / "rows.csv"))
    updates = items._show_file(kit, example.PROMPT, table, "ja")
    columns = {f"column_{index}": update.value for index, update in enumerate(updates[6:]) if isinstance(update, gr.Dropdown)}
    rows, lines = items.read(kit, example.PROMPT, {"file": table, "typed": typed, **columns})
    assert rows == [{"sources": "3日です", "question": "何日？", "expected": "3日"}] and "read_rows('rows.csv')" in lines


def test_a_difference_that_is_not_established_is_grey(kit: Kit) -> None:
    few, many = make_comparison(kit, 2), make_comparison(kit, 12)
    assert "差は未確認 · n = 2" in results.show_deltas(kit, few, None, "ja") and "class='sure'" not in results.show_deltas(kit, few, None, "ja")
    shown_many = results.show_deltas(kit, many, NAMES[1], "ja")
    assert "差あり · n = 12" in shown_many and "class='sure'" in shown_many and "secret-&lt;other&gt;<span class='tag'>" in shown_many
    row = results.show_row(kit, many, "3", None, "ja")
    assert "<mark>" in row and "答え3" in row and "期待する回答" in row and "<i>" not in row
    ended = results.ended(kit, many, "ja", sentence="compare.opened")
    readable = results._readable(kit.comparison.table(many.id), results._labels(kit, many.id, "ja"), "ja")
    assert list(readable.columns) == ["番号", "質問", "期待する回答", *NAMES] and len(readable) == 12
    assert ended["open"].value is True and ended["csv"].interactive and "24件中24件" in ended["bar"]


# --- the ranking


def test_the_ranking_says_its_verdict_first_and_grey_until_it_is_established(kit: Kit) -> None:
    made, rankings = make_comparison(kit, 12), ranking.Rankings(kit)
    runs = plan_from_spec(made.spec)
    assert "まだ投票がありません" in charts.show_ranking(rankings.get(comparison_id=made.id), [], "ja")
    few = vote_all(kit, made, raters=1, most=3)
    first = rankings.get(comparison_id=made.id)
    assert rankings.get(comparison_id=made.id) is first and first.votes == few == 3
    board = charts.show_ranking(first, ["rater-<1>"], "ja")
    assert board.startswith("<div class='verdict grey'>") and "secret-&lt;other&gt;" in board and "rater-&lt;1&gt;" in board and "<1>" not in board
    vote_all(kit, made, raters=12)
    sure = rankings.get(comparison_id=made.id)
    told = charts.show_ranking(sure, [], "en")
    assert sure is not first and sure.established and told.startswith("<div class='verdict'>secret-one")
    assert "100%" in told and "class='tied'" not in told and len(runs.variants) == 2


def vote_all(kit: Kit, made: Comparison, *, raters: int, most: int = 99) -> int:
    """Votes of people who all prefer the first variant."""
    count = 0
    for rater in range(raters):
        for pair in kit.comparison.pairs(made.id, rater=f"r{rater}", n=most):
            kit.comparison.vote(pair, NAMES[0], rater=f"r{rater}")
            count += 1
    return count


def test_a_closed_comparison_is_ranked_for_its_owner_only(kit: Kit) -> None:
    made = make_comparison(kit, open=False)
    show = ranking._on_show(kit, ranking.Rankings(kit))
    asked: dict[str, Any] = {"drawn": None, "scope": made.id, "tag": "", "style": False, "outliers": False, "cap": None}
    board, tag, shown_code, drawn = show(ME, **asked)
    assert "まだ投票がありません" in board and tag.visible is False and made.id in shown_code
    assert ranking._on_show(kit, ranking.Rankings(kit), only_new=True)(ME, **{**asked, "drawn": drawn})[0] == gr.skip()
    with pytest.raises(gr.Error):
        show(OTHER, **asked)
    with pytest.raises(gr.Error, match="vote_cap"):
        show(ME, **{**asked, "cap": 0.0})


# --- the code


def test_the_code_of_the_tab_runs_and_does_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path("workspace")
    with open_kit(tmp_path / "workspace") as kit:
        row = {name: value for name, value in example.rows(kit, "ja")[0].items() if name != "expected"}
        made = make_comparison(kit)
    plain, chosen = [{"model": "starter-reader"}, {"model": "starter-lm"}], [{"model": "starter-reader"}, {"model": "starter-reader", "version": "1"}]
    beside = code.side_code(place, example.PROMPT, [{"model": "starter-reader"}] * 2, row)
    assert run_snippet(beside, tmp_path, monkeypatch)["answers"].runs[0].output.startswith("「10日」")
    versions = variants.in_code(example.PROMPT, [*chosen[:1], {**chosen[1], "params": {"temperature": 0.5}}])
    lines = items.rows_code([{**row, "expected": "10日"}])
    table = run_snippet(code.batch_code(place, example.PROMPT, versions, rows=lines), tmp_path, monkeypatch)["table"]
    assert len(table) == 1 and table.attrs["variants"][1].startswith("starter-reader answer_from_sources v1")
    assert "Variant" not in code.batch_code(place, example.PROMPT, plain, rows=lines)
    assert run_snippet(code.duel_code(place, made.id), tmp_path, monkeypatch)["vote"].choice == "A"
    assert set(run_snippet(code.deltas_code(place, made.id, NAMES[1]), tmp_path, monkeypatch)["deltas"].variant) == set(NAMES)
    for text in (code.ranking_code(place, made.id, vote_cap=3, tag=None), code.ranking_code(place, style_control=False)):
        assert run_snippet(text, tmp_path, monkeypatch)["ranking"].votes == 1


@pytest.mark.parametrize("language", ["ja", "en"])
def test_the_example_has_six_items_in_both_languages(kit: Kit, language: Any) -> None:
    rows = example.rows(kit, language)
    assert len(rows) == 6 and all(row["expected"].lower() in row["sources"].lower() for row in rows)
    assert language_of(Person(headers={"accept-language": language})) == language  # type: ignore[arg-type]
    assert bool(re.search(r"[ぁ-ん]", rows[0]["instruction"])) == (language == "ja")

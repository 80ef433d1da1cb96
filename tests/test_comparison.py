"""Comparisons on real endpoints and the shipped models: sides at once, test sets with resume, blind pairs, and votes that count once."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_kit import Message, Prompt, Run, Variable
from llmops_kit.comparison import Pair, Variant, app_of, item_of, read_variants, variant_of
from llmops_kit.comparison.differences import differences, mark
from llmops_kit.comparison.pairs import Answer, Deck, make_pair
from llmops_kit.comparison.plan import plan_from_spec, question_of, read_items
from llmops_kit.errors import AccessDenied, InvalidValue, MissingVariable, NotSaved, UnknownName, WorkspaceError
from llmops_kit.kit import Kit, open_kit
from llmops_kit.statistics import compare
from llmops_kit.types import Comparison, Vote, new_id, now
from llmops_kit.votes import effective
from tests.test_grid import Endpoint

SAY = Prompt("say", (Message("user", "{{text}}"),), (Variable("text"),))
POLITE = Prompt("say", (Message("system", "丁寧に"), Message("user", "どうぞ：{{text}}")), (Variable("text"),), version=3)
KEY = "sk-one-call-only-0123456789"
SLOW = "遅い返事です"


@pytest.fixture
def servers() -> Iterator[list[Endpoint]]:
    running = [Endpoint(), Endpoint()]
    threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True) for server in running]
    for thread in threads:
        thread.start()
    yield running
    for server, thread in zip(running, threads, strict=True):
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def kit(workspace: Path, servers: list[Endpoint]) -> Iterator[Kit]:
    with open_kit(workspace, endpoint_retries=0) as opened:
        for name, server in zip(("one", "other"), servers, strict=True):
            opened.models.add(name, provider="openai", model="echo", base_url=server.url)
        yield opened


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    with open_kit(tmp_path_factory.mktemp("kit"), local_threads=1) as opened:
        yield opened


def answer(kit: Kit, item: str = "1", variant: str = "a", output: str | None = None, **fields) -> Run:
    """A stored Run, as a comparison leaves it."""
    told = {"app": "import", "finish_reason": "stop", "model": variant, **fields}
    said = f"{variant} says {item}" if output is None else output
    run = Run(new_id(), now(), "p1", messages=(), prompt_sha256="0" * 64, output=said, item=item, variant=variant, **told)
    kit.store.append(run)
    return run


# --- sides


def test_in_a_notebook_two_settings_of_the_starter_model_answer_offline(starter: Kit) -> None:
    done = starter.comparison.run(
        "summarize", ["starter-lm", {"model": "starter-lm", "params": {"temperature": 1.0, "seed": 3}}], variables={"text": "春が来た。"}, max_tokens=6
    )
    assert [run.variant for run in done.runs] == ["starter-lm", "starter-lm temperature=1 seed=3"]
    assert [run.params["temperature"] for run in done.runs] == [0.3, 1.0]
    assert all(run.error is None and run.output and run.item == "1" and run.app == app_of(done.id) for run in done.runs)
    assert {run.id: run for run in starter.comparison.runs(done.id)} == {run.id: run for run in done.runs}
    record = starter.comparison.get(done.id)
    assert record.spec["prompt"]["name"] == "summarize" and record.participant == "local"
    assert ("comparison", done.id) in {(item.kind, item.record_id) for item in starter.store.unsent()}
    assert list(done.table()["variant"]) == [run.variant for run in done.runs]
    assert starter.comparison.list()["comparison_id"][0] == done.id
    assert starter.comparison.list("nobody").empty


def test_documents_on_and_off_is_a_choice_beside_the_model(starter: Kit) -> None:
    starter.documents.add_text("有給休暇は年に20日もらえます。", name="規則.txt")
    models = [{"model": "starter-reader", "documents": "default"}, {"model": "starter-reader", "documents": "nowhere", "label": "lost"}]
    done = starter.comparison.run([{"role": "user", "content": "有給休暇は何日もらえますか。"}], models)
    found, lost = done.runs
    assert found.variant == "starter-reader+docs:default" and found.answer == "20日" and found.sources[0].document == "規則.txt"
    assert found.app == app_of(done.id) and found.item == "1" and found == starter.playground.get(found.id)
    assert lost.error is not None and "nowhere" in lost.error and starter.playground.get(lost.id) == lost


def test_all_sides_answer_at_once(kit: Kit, servers: list[Endpoint]) -> None:
    for server in servers:
        server.pause_s = 0.2
    done = kit.comparison.run(SAY, ["one", "other"], {"text": SLOW})
    latencies = [run.latency_s for run in done.runs if run.latency_s]
    assert [run.output for run in done.runs] == [SLOW, SLOW] and min(latencies) > 1.1
    assert done.wall_s < 0.75 * sum(latencies)


def test_one_failing_side_does_not_stop_the_others(kit: Kit) -> None:
    variants = ["one", {"model": "gone", "label": "missing"}, Variant("other", prompt=POLITE)]
    fine, missing, polite = kit.comparison.run(SAY, variants, {"text": "落ち葉"}).runs
    assert fine.error is not None and fine.finish_reason == "error"  # the server answers 500
    assert missing.error is not None and "gone" in missing.error and missing.variant == "missing"
    assert polite.variant == "other say v3" and polite.prompt_version == 3
    done = kit.comparison.run(SAY, variants, {"text": "春"})
    assert [run.output for run in done.runs] == ["春", "", "どうぞ：春"]
    assert done.runs[2].messages[0] == Message("system", "丁寧に")
    assert {run.id for run in kit.comparison.runs(done.id)} == {run.id for run in done.runs}


def test_streams_grow_together_and_closing_stops_every_side(kit: Kit, servers: list[Endpoint]) -> None:
    for server in servers:
        server.pause_s = 0.1
    growing = kit.comparison.stream(SAY, ["one", "other"], {"text": SLOW * 20})
    for sides in growing:
        if all(side is not None and len(side.output) > 1 for side in sides):
            break
    growing.close()
    [record] = kit.store.find(Comparison)
    runs = kit.comparison.runs(record.id)
    assert [run.finish_reason for run in runs] == ["cancelled", "cancelled"]
    assert all(SLOW.startswith(run.output[:3]) and len(run.output) < 60 for run in runs)
    assert kit.playground.under_way == 0


def test_the_last_of_the_stream_are_the_stored_runs(kit: Kit) -> None:
    *_, last = kit.comparison.stream(SAY, ["one", "other"], {"text": "さくら"}, temperature=0)
    assert [run.output for run in last] == ["さくら", "さくら"]
    assert [kit.playground.get(run.id) for run in last] == list(last)
    assert all(run.params["temperature"] == 0 for run in last)


def test_setting_cancel_ends_a_run_with_what_was_said(kit: Kit) -> None:
    cancel = threading.Event()
    threading.Timer(0.5, cancel.set).start()
    done = kit.comparison.run(SAY, ["one", "other"], {"text": SLOW * 40}, cancel=cancel)
    assert [run.finish_reason for run in done.runs] == ["cancelled", "cancelled"]
    assert done.wall_s < 5


@pytest.mark.parametrize(
    ("models", "how", "error"),
    [
        (["one"], {}, InvalidValue),
        (["one"] * 5, {}, InvalidValue),
        (["one", {"model": "other", "temperature": 1}], {}, InvalidValue),
        (["one", {"documents": "default"}], {}, InvalidValue),
        (["one", Variant("other", params={"api_key": KEY})], {}, InvalidValue),
        (["one", Variant("other", params={"k": 3})], {}, InvalidValue),
        (["one", "other"], {"temprature": 1}, InvalidValue),
        (["one", "other"], {"variables": {"text": " "}}, MissingVariable),
        (["one", "other"], {"variables": {"text": "x" * 2_000_001}}, InvalidValue),
        (["one", Variant("other", prompt="no-such-prompt")], {}, UnknownName),
    ],
)
def test_what_does_not_serve_is_said_before_anything_is_kept(kit: Kit, models, how, error) -> None:
    with pytest.raises(error):
        kit.comparison.stream(SAY, models, **{"variables": {"text": "春"}, **how})
    assert kit.store.count(Comparison) == kit.store.count(Run) == 0


def test_keys_of_a_call_reach_the_model_and_nothing_else(kit: Kit, servers: list[Endpoint], workspace: Path) -> None:
    done = kit.comparison.run(SAY, ["one", "other"], {"text": "春"}, api_keys={"one": KEY})
    assert servers[0].keys == [f"Bearer {KEY}"] and KEY not in str(servers[1].keys)
    kit.comparison.batch(SAY, ["one"], [{"text": "夏"}], api_keys={"one": KEY}, progress=False)
    assert servers[0].keys[-1] == f"Bearer {KEY}"
    kit.store.close()
    assert all(KEY.encode() not in file.read_bytes() for file in workspace.rglob("*") if file.is_file())
    assert KEY not in repr(done)


def test_what_a_model_writes_is_text_on_the_page(kit: Kit) -> None:
    nasty = '<img src="https://example.org/x.png" onerror=alert(1)><script>1</script>![x](https://example.org/y.png)'
    done = kit.comparison.run(SAY, ["one", {"model": "other", "label": "<b>bold</b>"}], {"text": nasty})
    pages = [done._repr_html_(), make_pair(*done.runs)._repr_html_()]
    table = kit.comparison.batch(SAY, ["one", "other"], [{"text": nasty}], progress=False)
    for page in (*pages, kit.comparison.show(table.attrs["comparison_id"])._repr_html_()):
        assert "<img" not in page and "<script" not in page and "<b>" not in page and "&lt;img" in page


# --- variants and items


def test_variants_are_named_apart() -> None:
    same = [Variant("m"), {"model": "m"}, "m", Variant("m", documents="a"), Variant("m", documents="b"), Variant("m", params={"temperature": 0.7})]
    assert [each.name for each in read_variants(same)] == ["m", "m (2)", "m (3)", "m+docs:a", "m+docs:b", "m temperature=0.7"]
    labelled = [Variant("m", documents="a"), Variant("m (2)"), Variant("m", label="m (2)")]
    assert [each.name for each in read_variants(labelled)] == ["m+docs", "m (2)", "m (2) (2)"]
    assert read_variants(read_variants(same)) == read_variants(same)
    assert Variant("m", prompt=POLITE).name == "m say v3"


def test_the_columns_item_expected_and_tags_belong_to_the_item_unless_the_prompt_asks_for_them() -> None:
    rows = [{"text": "春", "item": "s1", "expected": "春", "tags": "季節、 a,a"}, {"text": "夏", "expected": float("nan"), "tags": ["b"]}]
    first, second = read_items(rows, {"text"})
    assert (first.id, first.variables, first.expected, first.tags) == ("s1", {"text": "春"}, "春", ("季節", "a"))
    assert (second.id, second.variables, second.expected, second.tags) == ("2", {"text": "夏"}, None, ("b",))
    [asked] = read_items([{"text": "春", "tags": "x"}], {"text", "tags"})
    assert asked.variables == {"text": "春", "tags": "x"} and asked.tags == ()
    for wrong in ([], [{"item": "a"}, {"item": "a"}], [{"item": "x" * 101}]):
        with pytest.raises(InvalidValue):
            read_items(wrong, set())


def test_the_question_is_the_variable_else_the_only_text_else_the_last_message(starter: Kit) -> None:
    library = starter.prompts

    def asked(prompt, **variables):
        return question_of(read_items([variables], {"text", "question", "item"})[0], prompt, library)

    assert asked(SAY, text="春", question="いつ？") == "いつ？"
    assert asked(library.get("summarize"), text="春", instruction="短く") == "春"
    assert asked(POLITE, text="春") == "春"
    two = Prompt("two", (Message("user", "{{a}}と{{b}}"),), (Variable("a"), Variable("b")))
    assert asked(two, a="春", b="夏") == "春と夏"
    assert asked(Prompt("", (Message("user", "何時？"), Message("assistant", "？"), Message("user", "いま")))) == "いま"
    with pytest.raises(MissingVariable):
        asked(Prompt("", (Message("system", "短く"),)))


# --- test sets


def test_a_test_set_becomes_one_row_per_item_and_one_column_per_variant(kit: Kit, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_bytes("text,expected,tags,item\n春,春,季節,s1\n落,落,,s2\n秋,冬,季節,s3\n".encode("cp932"))
    table = kit.comparison.batch(SAY, ["one", Variant("other", prompt=POLITE, label="polite")], rows, baseline="polite", participant="p7", progress=False)
    assert list(table.columns) == ["item", "text", "expected", "tags", "one", "polite"]
    assert table["item"].tolist() == ["s1", "s2", "s3"] and table["tags"].tolist() == ["季節", "", "季節"]
    assert table["one"].tolist() == ["春", None, "秋"] and table["polite"].tolist() == ["どうぞ：春", None, "どうぞ：秋"]
    about = table.attrs
    assert (about["total"], about["missing"], about["baseline"], about["variants"]) == (6, 2, "polite", ["one", "polite"])
    assert [(error["item"], error["variant"]) for error in about["errors"]] == [("s2", "one"), ("s2", "polite")]
    pd.testing.assert_frame_equal(kit.comparison.table(about["comparison_id"]), table)
    record = kit.comparison.get(about["comparison_id"])
    assert plan_from_spec(record.spec).spec() == record.spec and record.participant == "p7"
    assert {(run.item, run.variant) for run in kit.comparison.runs(record.id)} == {(item, name) for item in ("s1", "s2", "s3") for name in ("one", "polite")}


def test_a_resume_asks_only_for_what_is_missing_or_failed_and_doubles_nothing(kit: Kit, servers: list[Endpoint]) -> None:
    rows = [{"text": text} for text in ("春", "落", "秋")]
    first = kit.comparison.batch(SAY, ["one", "other"], rows, workers=2, progress=False)
    comparison = first.attrs["comparison_id"]
    before = [len(server.asked) for server in servers]
    for server in servers:
        server.down = False
    again = kit.comparison.batch(resume=comparison, progress=False)
    assert [len(server.asked) for server in servers] == [count + 1 for count in before]
    assert again["one"].tolist() == ["春", "落", "秋"] and again.attrs["missing"] == 0 and again.attrs["errors"] == []
    runs = kit.comparison.runs(comparison)
    assert len(runs) == 8 and len({run.id for run in runs}) == 8  # six answers, two failures
    kit.comparison.batch(SAY, ["one", "other"], rows, resume=comparison, progress=False)
    assert len(kit.comparison.runs(comparison)) == 8
    for other in ({"models": ["one"]}, {"rows": rows[:1]}, {"prompt": "summarize"}, {"baseline": "other"}, {"temperature": 1}):
        with pytest.raises(InvalidValue, match=comparison):
            kit.comparison.batch(resume=comparison, progress=False, **other)
    with pytest.raises(UnknownName, match="nowhere"):
        kit.comparison.batch(resume="nowhere")


def test_steps_count_up_and_a_stop_keeps_what_is_done(kit: Kit, servers: list[Endpoint]) -> None:
    rows = [{"text": f"{SLOW}{number}"} for number in range(12)]
    with closing(kit.comparison.stream_batch(SAY, ["one", "other"], rows, workers=2)) as steps:
        for step in steps:
            if step.done == 3:
                break
    table = kit.comparison.table(step.comparison_id)
    assert (step.total, step.failed) == (24, 0) and step.seconds_left is not None and step.seconds_left > 0
    assert 21 >= table.attrs["missing"] >= 17
    assert table["one"][0] == f"{SLOW}0" and table["other"][0] == f"{SLOW}0", "item by item: what is there compares"
    for server in servers:
        server.pause_s = 0
    seen: list[tuple[int, int, float | None]] = []
    done = kit.comparison.batch(resume=step.comparison_id, progress=lambda *shown: seen.append(shown))
    assert done.attrs["missing"] == 0 and seen[-1][:2] == (24, 24) and seen[0][0] >= 3
    assert Counter((run.item, run.variant) for run in kit.comparison.runs(step.comparison_id) if run.finish_reason == "stop").most_common(1)[0][1] == 1


def test_deltas_are_paired_differences_on_the_items_both_answered(kit: Kit) -> None:
    rows = [{"text": text, "expected": text} for text in ("春の海", "夏の山", "落ち葉", "冬の星", "朝の光", "夜の雨", "雪の道", "風の音")]
    table = kit.comparison.batch(SAY, ["one", Variant("other", prompt=POLITE, label="polite")], rows, progress=False)
    deltas = kit.comparison.deltas(table.attrs["comparison_id"]).set_index(["variant", "measure"])
    longer = deltas.loc["polite", "length_chars"]
    assert (longer["n"], longer["mean"], longer["baseline_mean"], longer["difference"]) == (7, 7, 3, 4) and longer["established"]
    f1 = deltas.loc["polite", "f1"]
    expected = compare([6 / 9] * 7, [1.0] * 7)  # 3 of 6 characters (the colon is no character) of 3 are shared
    assert f1["difference"] == pytest.approx(expected.mean) and f1["p"] == pytest.approx(expected.p) and f1["established"]
    assert deltas.loc["one", "exact_match"]["mean"] == 1 and pd.isna(deltas.loc["one", "f1"]["difference"])
    assert deltas.loc["polite", "latency_s"]["n"] == 7
    assert ("one", "cost_usd") not in deltas.index, "no price, no row"
    turned = kit.comparison.deltas(table.attrs["comparison_id"], baseline="polite").set_index(["variant", "measure"])
    assert turned.loc["one", "length_chars"]["difference"] == -4
    with pytest.raises(InvalidValue, match="nobody"):
        kit.comparison.deltas(table.attrs["comparison_id"], baseline="nobody")


# --- differences


@given(st.text(max_size=60), st.text(max_size=60))
@settings(max_examples=150, deadline=None)
def test_the_stretches_are_the_texts_and_the_same_ones_are_in_both(a: str, b: str) -> None:
    left, right = differences(a, b)
    assert "".join(text for text, _ in left) == a and "".join(text for text, _ in right) == b
    assert "".join(text for text, kind in left if kind == "same") == "".join(text for text, kind in right if kind == "same")
    assert all(one[1] != other[1] for side in (left, right) for one, other in pairwise(side))
    assert ("changed" in {kind for _, kind in left + right}) is (a != b)


def test_differences_are_characters_in_japanese_and_words_in_english() -> None:
    left, right = differences("開館は夜9時までです。", "開館は夜10時までです。")
    assert left == (("開館は夜", "same"), ("9", "changed"), ("時までです。", "same"))
    assert right[1] == ("10", "changed")
    left, right = differences("The big cat sat here", "The bad cat sat here")
    assert left == (("The ", "same"), ("big", "changed"), (" cat sat here", "same")) and right[1] == ("bad", "changed")
    assert differences("絵文字👍🏽", "絵文字👍")[0] == (("絵文字", "same"), ("👍🏽", "changed"))
    assert mark(left) == 'The <mark style="background:rgba(230,160,40,.28);color:inherit">big</mark> cat sat here'


@pytest.mark.parametrize("kind", ["edited", "other", "lines", "one sign"])
def test_differences_of_long_texts_take_a_moment(kind: str) -> None:
    draw = random.Random(1)
    words = [f"語{number}。" for number in range(30_000)]
    a = "".join(words) if kind != "one sign" else "あ。" * 50_000
    edited = [word if draw.random() < 0.9 else "変。" for word in words]
    b = {"edited": "".join(edited), "other": a[::-1], "lines": "".join(draw.sample(words, len(words))), "one sign": "い。" + a}[kind]
    started = time.process_time()
    left, right = differences(a, b)
    assert time.process_time() - started < 2
    assert "".join(text for text, _ in left) == a and "".join(text for text, _ in right) == b
    if kind == "edited":
        assert sum(len(text) for text, same in left if same == "same") > 0.85 * len(a)


# --- pairs


def deck_of(items: int, variants: str = "abcd", seed: int | None = 1) -> Deck:
    return Deck((Answer(f"{item}{name}", str(item), name, f"{name} on {item}") for item in range(items) for name in variants), seed=seed)


def test_what_is_drawn_is_balanced_over_variants_items_and_sides() -> None:
    deck = deck_of(20)
    drawn = deck.draw(120)  # all there are: 20 items × 6 pairs
    assert len({frozenset((left.id, right.id)) for left, right in drawn}) == 120 and not deck.draw(1)
    assert all(left.item == right.item and left.variant != right.variant for left, right in drawn)
    half = deck_of(20).draw(60)
    assert set(Counter(frozenset((left.variant, right.variant)) for left, right in half).values()) <= set(range(8, 13))
    assert set(Counter(left.item for left, _ in half).values()) <= set(range(1, 6))
    for names in ("ab", "cd"):
        shown = [left.variant for left, right in drawn if {left.variant, right.variant} == set(names)]
        assert 7 <= shown.count(names[0]) <= 13


def test_forty_who_draw_at_once_are_spread_out_and_coverage_comes_first() -> None:
    behind = [deck_of(10, seed=seed) for seed in range(40)]
    for deck in behind:
        for number in range(10):  # all have the same votes: pair a-b is well ahead, and so is item 0
            deck.count(f"{number}a", f"{number}b")
            deck.count("0c", "0d")
    drawn = [deck.draw(1)[0] for deck in behind]
    pairs = Counter(frozenset((left.variant, right.variant)) for left, right in drawn)
    items = Counter(left.item for left, _ in drawn)
    assert pairs[frozenset("ab")] + pairs[frozenset("cd")] <= 2 and max(pairs.values()) <= 20
    assert items["0"] <= 2 and max(items.values()) <= 12 and len(items) >= 6


def test_identical_answers_come_last_and_a_variant_never_meets_itself() -> None:
    same = [Answer("1a", "1", "a", "same"), Answer("1b", "1", "b", "same"), Answer("1a2", "1", "a", "again")]
    deck = Deck([*same[:2], *(Answer(f"2{name}", "2", name, name) for name in "ab")], seed=4)
    assert [left.item for left, _ in deck.draw(5)] == ["2", "1"]
    [(left, right)] = Deck(same, seed=1).draw(9)
    assert {left.id, right.id} == {"1a2", "1b"}, "the newest of a variant"


def test_pairs_leave_out_what_failed_what_was_voted_on_and_other_comparisons(kit: Kit) -> None:
    rows = [{"text": "春", "tags": "季節"}, {"text": "落"}, {"text": "夏"}]
    tables = [kit.comparison.batch(SAY, ["one", Variant("other", prompt=POLITE, label="polite")], rows, progress=False) for _ in range(2)]
    pairs = kit.comparison.pairs(tables[0], n=10)
    assert {pair.item for pair in pairs} == {f"compare:{tables[0].attrs['comparison_id']}:{item}" for item in ("1", "3")}
    assert {pair.tags for pair in pairs} == {("季節",), ()}
    assert len(kit.comparison.pairs(n=50)) == 4, "across comparisons the same item is another one"
    kit.comparison.vote(pairs[0], "A", rater="r1")
    assert len(kit.comparison.pairs(tables[0], rater="r1", n=10)) == 1
    vote = kit.comparison.votes(rater="r1")[0]
    kit.comparison.withdraw(vote, rater="r1")
    assert len(kit.comparison.pairs(tables[0].attrs["comparison_id"], rater="r1", n=10)) == 2
    shown = repr(pairs) + pairs[0]._repr_html_()
    assert "one" not in shown and "polite" not in shown and "other" not in shown
    with pytest.raises(UnknownName):
        kit.comparison.pairs("nowhere")
    with pytest.raises(InvalidValue):
        kit.comparison.pairs([1, 2])


def test_runs_of_any_door_make_pairs_where_they_answer_the_same(kit: Kit) -> None:
    first = kit.playground.run(SAY, model="one", variables={"text": "春"})
    second = kit.playground.run(SAY, model="other", variables={"text": "春"})
    third = kit.playground.run(SAY, model="other", variables={"text": "夏"})
    failed = answer(kit, error="down", finish_reason="error", app="playground", item="x")
    stopped, empty = answer(kit, variant="b", finish_reason="cancelled"), answer(kit, variant="c", output=" ")
    [pair] = kit.comparison.pairs([first, second, third, failed, stopped, empty, answer(kit, variant="d")], n=9)
    assert {pair.left_variant, pair.right_variant} == {"one", "other"} and pair.question == "春"
    assert item_of(first) == item_of(second) != item_of(third) and variant_of(first) == "one"
    assert item_of(replace(first, variables={})) == item_of(replace(second, variables={}, messages=(Message("system", "x"), *second.messages)))
    assert variant_of(replace(first, sources=("x",))) == "one+docs"


def test_drawing_from_a_thousand_items_and_ten_thousand_votes_is_quick(kit: Kit) -> None:
    comparison = Comparison(new_id(), now(), "p", {"rows": [{"item": str(item), "tags": ["t"]} for item in range(1000)]})
    app, draw, moment = app_of(comparison.id), random.Random(2), now()
    common = {"participant": "p", "app": app, "messages": (), "prompt_sha256": "0" * 64, "finish_reason": "stop"}
    runs = [
        Run(new_id(), moment, model="m", output=f"{item} {name}" + "答" * 300, item=str(item), variant=f"v{name}", **common)
        for item in range(1000)
        for name in range(8)
    ]
    votes = []
    for number in range(10_000):
        item, (left, right) = draw.randrange(1000), draw.sample(range(8), 2)
        one, other = runs[item * 8 + left], runs[item * 8 + right]
        votes.append(Vote(new_id(), moment, f"r{number % 40}", f"{app}:{item}", one.id, other.id, one.variant, other.variant, "A"))
    with kit.store.change() as change:
        change.put_all([comparison])
        change.put_all(runs)
        change.put_all(votes)
    took = []
    for _ in range(5):
        started = time.process_time()
        [pair] = kit.comparison.pairs(comparison.id, rater="r1")
        took.append(time.process_time() - started)
    assert pair.tags == ("t",) and min(took) < 0.4  # seconds; 0.1 on a quiet machine


# --- votes


@pytest.fixture
def pair(kit: Kit) -> Pair:
    return kit.comparison.pair(answer(kit, variant="alpha"), answer(kit, variant="beta"))


@pytest.mark.parametrize(
    ("said", "meant"),
    [("A", "A"), ("b", "B"), ("left", "A"), ("RIGHT", "B"), ("tie", "tie"), ("both_bad", "both_bad"), ("Ｂ", "B"), ("alpha", "A"), ("beta", "B")],
)
def test_a_vote_takes_sides_names_and_ids(kit: Kit, pair: Pair, said: str, meant: str) -> None:
    vote = kit.comparison.vote(pair, said, rater="花子", comment="🙂", duration_s=2.5, source="ui")
    assert vote.choice == meant and kit.store.get(Vote, vote.id) == vote
    assert (vote.left_variant, vote.right_variant, vote.item, vote.comment) == ("alpha", "beta", "import:1:00000000", "🙂")
    assert kit.comparison.vote((pair.left.id, pair.right.id), pair.right.id).choice == "B"
    first = kit.store.unsent()[0]
    assert (first.kind, first.record_id) == ("vote", vote.id)


def test_the_same_id_is_the_same_vote(kit: Kit, pair: Pair) -> None:
    id = new_id()
    first = kit.comparison.vote(pair, "A", id=id)
    assert kit.comparison.vote(pair, "A", id=id) == first == kit.comparison.vote(pair, "B", id=id)
    assert kit.store.count(Vote) == 1 and len(kit.store.unsent()) == 1
    with pytest.raises(InvalidValue, match=id):
        kit.comparison.vote(pair, "A", id=id, rater="somebody else")


def test_what_is_no_vote_is_refused(kit: Kit, pair: Pair) -> None:
    elsewhere = answer(kit, item="2", variant="beta")
    for wrong in ({"choice": "C"}, {"choice": "withdrawn"}, {"choice": ""}, {"rater": " "}, {"id": "x y"}, {"comment": "あ" * 20_001}, {"duration_s": -1}):
        with pytest.raises(InvalidValue):
            kit.comparison.vote(pair, **{"choice": "A", **wrong})
    for left, right in ((pair.left, elsewhere), (pair.left, pair.left), (pair.left.id, elsewhere.id)):
        with pytest.raises(InvalidValue):
            kit.comparison.vote((left, right), "A")
    with pytest.raises(InvalidValue):
        kit.comparison.vote(replace(pair, right=elsewhere), "A")
    with pytest.raises(UnknownName):
        kit.comparison.pair(pair.left, "nowhere")
    assert kit.store.count(Vote) == 0


def test_a_disk_that_refuses_is_told_and_nothing_is_half_written(kit: Kit, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    given = kit.comparison.vote(pair, "A")

    def full(*_: object, **__: object) -> None:
        raise WorkspaceError(path="x", reason="database or disk is full")

    monkeypatch.setattr(kit.store, "commit", full)
    id = new_id()
    for act in (lambda: kit.comparison.vote(pair, "B", id=id), lambda: kit.comparison.withdraw(given)):
        with pytest.raises(NotSaved, match="disk is full") as failed:
            act()
        assert "保存されていません" in failed.value.text("ja")
    monkeypatch.undo()
    assert kit.comparison.votes() == [given]
    assert kit.comparison.vote(pair, "B", id=id).id == id


def test_taking_back_is_a_new_event_of_ones_own_and_in_time(kit: Kit, pair: Pair) -> None:
    vote = kit.comparison.vote(pair, "A", rater="r1")
    with pytest.raises(AccessDenied):
        kit.comparison.withdraw(vote, rater="r2")
    with pytest.raises(UnknownName):
        kit.comparison.withdraw("nowhere", rater="r1")
    late = replace(vote, id=new_id(), created_at=vote.created_at - timedelta(seconds=60))
    kit.store.append(late)
    with pytest.raises(InvalidValue, match="10 seconds"):
        kit.comparison.withdraw(late, rater="r1", within_s=10)
    taken = kit.comparison.withdraw(vote.id, rater="r1", within_s=10)
    assert (taken.choice, taken.supersedes) == ("withdrawn", vote.id)
    assert kit.comparison.withdraw(vote, rater="r1") == taken and kit.store.count(Vote) == 3
    assert kit.store.get(Vote, vote.id) == vote, "what was said stays"
    assert kit.comparison.votes() == [late], "the older vote of the same person counts again"


def test_the_newest_vote_of_a_person_on_two_answers_counts(kit: Kit, pair: Pair) -> None:
    turned = make_pair(pair.right, pair.left)
    kit.comparison.vote(pair, "A", rater="r1")
    changed = kit.comparison.vote(turned, "A", rater=" r1 ")
    others = [kit.comparison.vote(pair, "tie", rater="r2"), kit.comparison.vote(pair, "A", rater="r1", campaign_id="c1")]
    assert kit.comparison.votes() == [changed, *others]
    assert kit.comparison.votes(campaign_id="c1") == [others[1]] and kit.comparison.votes(rater="r2") == [others[0]]
    table = kit.comparison.votes_table()
    assert table["winner"].tolist() == ["beta", None, "alpha"] and table["choice"].tolist() == ["A", "tie", "A"]


EVENTS = st.lists(
    st.tuples(st.sampled_from("ab"), st.booleans(), st.sampled_from([None, "c"]), st.sampled_from(["A", "tie", "withdrawn"]), st.integers(-1, 7)), max_size=8
)


@given(EVENTS, st.randoms())
@settings(max_examples=100, deadline=None)
def test_which_votes_count_does_not_depend_on_the_order_they_are_read_in(events, draw: random.Random) -> None:
    start, votes = now(), []
    for number, (rater, turned, campaign, choice, target) in enumerate(events):
        left, right = ("r", "l") if turned else ("l", "r")
        told = {"campaign_id": campaign, "supersedes": f"v{target}" if target >= 0 else None}
        votes.append(Vote(f"v{number}", start + timedelta(seconds=number // 2), rater, "i", left, right, left, right, choice, **told))
    counted = effective(votes)
    assert effective(draw.sample(votes, len(votes))) == counted == effective(counted + counted)
    assert len({(vote.rater, vote.campaign_id) for vote in counted}) == len(counted), "one per rater and campaign, whichever was left"
    assert not {vote.choice for vote in counted} & {"withdrawn"}
    replaced = {vote.supersedes for vote in votes}
    taken = {(vote.rater, vote.supersedes) for vote in votes if vote.choice == "withdrawn" and vote.id not in replaced and (vote.supersedes or "v9") < vote.id}
    assert not {(vote.rater, vote.id) for vote in counted} & taken


def test_votes_of_a_comparison_and_of_a_tag(kit: Kit) -> None:
    rows = [{"text": "春", "tags": "季節"}, {"text": "海"}]
    tables = [kit.comparison.batch(SAY, ["one", Variant("other", prompt=POLITE)], rows, progress=False) for _ in range(2)]
    for table in tables:
        for pair in kit.comparison.pairs(table, n=2):
            kit.comparison.vote(pair, "one")
    comparison = tables[0].attrs["comparison_id"]
    assert len(kit.comparison.votes()) == 4 and len(kit.comparison.votes(comparison)) == 2
    [tagged] = kit.comparison.votes(comparison, tag="季節")
    assert tagged.tags == ("季節",)
    assert len(kit.comparison.votes_table(tag="季節")) == 2


def test_the_ranking_is_made_of_the_votes_that_count(kit: Kit) -> None:
    rows = [{"text": f"海{number}"} for number in range(30)]
    table = kit.comparison.batch(SAY, ["one", Variant("other", prompt=POLITE, label="polite")], rows, progress=False)
    for rater in ("r1", "r2"):
        for pair in kit.comparison.pairs(table, rater=rater, n=30):
            kit.comparison.vote(pair, "polite", rater=rater)
    ranking = kit.comparison.ranking(table.attrs["comparison_id"], style_control=False)
    assert ranking.best == "polite" and ranking.established and ranking.votes == 60
    assert kit.comparison.ranking(votes=[]).votes == 0


def test_votes_of_a_campaign_go_through_its_tasks(kit: Kit, pair: Pair) -> None:
    campaign = kit.feedback.create("2つ", [pair.left, pair.right], kind="pairwise", k=1)
    with pytest.raises(InvalidValue, match=r"kit\.feedback\.submit"):
        kit.comparison.vote(pair, "A", campaign_id=campaign.id)
    task = kit.feedback.next(campaign, rater="r1")
    assert task is not None
    vote = kit.feedback.submit(task, "A")
    with pytest.raises(InvalidValue, match=r"kit\.feedback\.withdraw"):
        kit.comparison.withdraw(vote.id, rater="r1")
    assert kit.feedback.progress(campaign).complete
    kit.feedback.withdraw(vote.id, rater="r1")
    assert kit.feedback.progress(campaign).done == 0 and kit.feedback.next(campaign, rater="r2") is not None


def test_the_same_number_in_two_files_is_not_the_same_question(kit: Kit) -> None:
    answers = [
        *kit.feedback.import_answers("id,prompt,answer,model\n1,富士山の高さは,3776m,one\n2,首都は,東京,one\n".encode(), file="a.csv"),
        *kit.feedback.import_answers("id,prompt,answer,model\n1,有給は何日,20日,other\n2,首都は,大阪,other\n".encode(), file="b.csv"),
    ]
    [pair] = kit.comparison.pairs(answers, n=5)
    assert {pair.left.output, pair.right.output} == {"東京", "大阪"}


def test_no_variant_takes_the_place_of_a_column() -> None:
    assert [each.name for each in read_variants([Variant("m", label="item"), Variant("m", label="tags"), "m"])] == ["item (2)", "tags (2)", "m"]


def test_one_opinion_in_two_campaigns_is_one_vote_of_a_ranking(kit: Kit, pair: Pair) -> None:
    for campaign in (None, "c1", "c2"):
        kit.comparison.vote(make_pair(pair.right, pair.left) if campaign == "c1" else pair, "A", rater="r1", campaign_id=campaign)
    kit.comparison.vote(pair, "B", rater="r2")
    assert len(kit.comparison.votes()) == 4 and kit.comparison.ranking().votes == 2
    assert kit.comparison.ranking().matrix.loc["alpha", "beta"] == 0.5
    assert kit.comparison.ranking(campaign_id="c1").votes == 1

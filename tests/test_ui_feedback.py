"""What the Feedback tab shows, keeps and refuses, without a browser: escaped text, the form and back, whose is what, code that runs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
import sqlalchemy as sa

from llmops_kit import Kit
from llmops_kit.access import User
from llmops_kit.errors import AccessDenied, InputError, InvalidValue
from llmops_kit.feedback.rubrics import Criterion
from llmops_kit.feedback.samples import ANSWERS
from llmops_kit.settings import Settings
from llmops_kit.types import Campaign, Feedback, Message, Run, Vote, new_id, now
from llmops_kit.ui.feedback import agreement, campaigns, code, criteria, export, figures, making, rate, showing, whose

HOSTILE = "<img src=x onerror=alert(1)>'\"${7*7}{{x}}"
MARKED = ("<img", "<b>", "<script", "<i>")
FIELDS = {"source": "runs", "n": 10, "chosen": [], "comparison": None, "file": None, "kind": "rate", "preset": "quality", "guidelines": "", "k": 2}
FIELDS |= {"raters": "everybody", "listed": "", "yaml": "", "timeout": 15, "shuffle": True, "name": "確認"}  # type: ignore[operator]


@pytest.fixture
def kit(settings: Settings) -> Iterator[Kit]:
    with Kit(settings) as opened:
        yield opened


def asked_by(user: str, language: str = "ja") -> Any:
    """A request as the page of `user` sends it."""
    return SimpleNamespace(username=user, headers={"accept-language": language, "host": "kit.example:7860"}, cookies={})


def sent(form: str, comment: str = "", correction: str = "", **chosen: str) -> str:
    """What the page sends of a form it was shown."""
    return json.dumps({"token": token_of(form), "chosen": chosen, "comment": comment, "correction": correction, "wanted": ""})


def token_of(form: str) -> str:
    import html

    return html.unescape(form.partition("data-token='")[2].partition("'")[0])


def shown(updates: list[Any]) -> dict[str, Any]:
    """The updates of the Rate sub-tab by name."""
    return dict(zip(rate._SHOWN, updates[2:], strict=True))


def add_run(kit: Kit, output: str, participant: str = "owner", **fields: Any) -> Run:
    run = Run(new_id(), now(), participant, "playground", "m", (Message("user", "問い<b>"),), "", output=output, finish_reason="stop", **fields)
    kit.store.append(run)
    return run


def test_nothing_of_a_prompt_an_answer_or_a_rubric_is_markup() -> None:
    task = showing.show_task("rate", HOSTILE, [HOSTILE, "<b>x"], "ja")
    rubric = [
        Criterion("a", "category", {"ja": HOSTILE}, options=(HOSTILE, "<b>y")),
        Criterion("b", "text", {"ja": "<b>z"}, help={"ja": "<i>h"}),
        Criterion("c", "number", minimum=0),
    ]
    form = criteria.show_rubric(rubric, "ja", {"a": HOSTILE, "b": "</textarea><script>", "c": 1.5})
    whole = criteria.show_form({"campaign": "c", "item": HOSTILE, "id": new_id(), "at": "0"}, form, "ja", comment="</textarea><b>", correction="<script>")
    assert not any(mark in task + whole for mark in MARKED) and "</textarea><b>" not in whole
    assert f"value='{1.5:g}'" in whole and " checked" in whole


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("**a** ![絵](http://203.0.113.7/x.png) b", "**a** 絵 b"),
        ("<img src='http://203.0.113.7/y'>文", "文"),
        ("![x][1]\n\n[1]: http://203.0.113.7/z", "x\n"),
        ("[規程](https://example.org)", "[規程](https://example.org)"),
    ],
)
def test_guidelines_lose_their_pictures_and_keep_their_words(text: str, kept: str) -> None:
    assert showing.calm_markdown(text) == kept


def test_what_the_page_sends_is_read_and_anything_else_is_refused() -> None:
    form = criteria.show_form({"campaign": "c", "item": "i", "id": "d", "at": "1.5"}, "", "ja")
    read = criteria.read_sent(sent(form, "😀", accuracy="4"))
    assert (read.token["item"], read.chosen, read.comment) == ("i", {"accuracy": "4"}, "😀")
    for text in (None, "", "[]", "{", '{"token": null}', '{"token": "{}", "chosen": {}, "comment": "", "correction": ""}'):
        with pytest.raises(InputError):
            criteria.read_sent(text)
    assert criteria.wanted('{"wanted": "c1"}') == "c1" and criteria.wanted("[1]") is None


def test_the_same_thing_sent_again_has_the_same_id_and_a_change_another() -> None:
    form = criteria.show_form({"campaign": "c", "item": "i", "id": "d", "at": "1.5"}, "", "ja")
    one, again = (criteria.read_sent(sent(form, "a", accuracy="4")) for _ in range(2))
    assert criteria.id_of(one) == criteria.id_of(again) != criteria.id_of(criteria.read_sent(sent(form, "b", accuracy="4")))
    assert criteria.id_of(one, "A") != criteria.id_of(one, "B")


def test_places_make_an_order_only_when_each_is_given_once() -> None:
    assert criteria.read_ranking({"rank:0": "2", "rank:1": "1", "rank:2": "3"}, ["a", "b", "c"]) == ["b", "a", "c"]
    for places in ({"rank:0": "1", "rank:1": "1"}, {"rank:0": "1"}, {}):
        with pytest.raises(InvalidValue):
            criteria.read_ranking(places, ["a", "b"])
    again = criteria.show_ranking(["a", "b"], "ja", ["b", "a"])
    assert again.partition("順位</legend>")[2].index("value='2' checked") > 0


def test_a_sample_is_rated_from_the_first_to_the_last_and_back(kit: Kit) -> None:
    request, submit = asked_by("hanako"), rate._on_submit(kit)
    empty = rate.open_queue(kit, request, None)
    assert "サンプル" in shown(empty)["task"] and empty[1].visible
    seen = shown(rate._on_sample(kit)(request, sent="", campaign=None))
    (campaign,) = kit.store.find(Campaign)
    while "data-token" in seen["form"]:
        updates = submit(request, sent=sent(seen["form"], "良い😀", accuracy="4", fluency="５", usefulness="3", harmful="false"), campaign=campaign.id)
        seen = shown(updates)
        assert "保存しました" in seen["note"]
    assert "すべて評価しました（20件）" in seen["task"] and "あなた 20/20 · 全体 20/40" in seen["progress"]
    events = kit.feedback.events(campaign=campaign)
    assert len(events) == 20 and {event.source for event in events} == {"ui"}
    assert events[0].scores == {"accuracy": 4, "fluency": 5, "usefulness": 3, "harmful": False} and events[0].comment == "良い😀"
    back = shown(rate._on_move(kit, -1)(request, sent="", campaign=campaign.id))
    assert "評価済み" in back["note"] and back["form"].count(" checked") == 4 and "良い😀" in back["form"]
    submit(request, sent=sent(back["form"], accuracy="1", fluency="1", usefulness="1", harmful="true"), campaign=campaign.id)
    assert len(kit.store.find(Feedback)) == 21 and sum(event.scores["accuracy"] == 1 for event in kit.feedback.events(campaign=campaign)) == 1


def start(kit: Kit, user: str = "hanako", **options: Any) -> tuple[Campaign, dict[str, Any]]:
    """A campaign over the samples, and what `user` is shown of it first."""
    campaign = kit.feedback.create("試し", path=ANSWERS, owner="owner", **{"rubric": "score", **options})
    return campaign, shown(rate.open_queue(kit, asked_by(user), campaign.id))


def test_a_double_click_is_one_rating_and_an_incomplete_one_is_none(kit: Kit) -> None:
    campaign, seen = start(kit)
    request, submit = asked_by("hanako"), rate._on_submit(kit)
    for _ in range(2):
        submit(request, sent=sent(seen["form"], score="4"), campaign=campaign.id)
    assert [event.score for event in kit.store.find(Feedback)] == [4]
    seen = shown(rate.open_queue(kit, request, campaign.id))
    told = submit(request, sent=sent(seen["form"], "まだ"), campaign=campaign.id)
    assert "role='alert'" in shown(told)["note"] and "保存されていません" in shown(told)["note"] and "評価" in shown(told)["note"]
    assert all(update == gr.skip() for name, update in shown(told).items() if name != "note")
    assert kit.store.count(Feedback) == 1


def test_a_full_disk_is_said_beside_the_button_and_everything_stays(kit: Kit) -> None:
    campaign, seen = start(kit)
    pages = kit.store._engine.connect().execute(sa.text("PRAGMA page_count")).scalar_one()
    sa.event.listen(kit.store._engine, "checkout", lambda raw, *_: raw.execute(f"PRAGMA max_page_count={pages}"))
    told = rate._on_submit(kit)(asked_by("hanako"), sent=sent(seen["form"], "あ" * 15_000, score="4"), campaign=campaign.id)
    assert "保存されていません" in shown(told)["note"] and "role='alert'" in shown(told)["note"]
    assert all(update == gr.skip() for name, update in shown(told).items() if name != "note")
    assert kit.store.count(Feedback) == 0


def test_a_skip_goes_on_and_a_correction_that_repeats_the_answer_is_none(kit: Kit) -> None:
    campaign, seen = start(kit)
    request = asked_by("hanako")
    seen = shown(rate._on_skip(kit)(request, sent=sent(seen["form"]), campaign=campaign.id, reason=" 専門外です "))
    assert "スキップしました" in seen["note"] and kit.store.find(Feedback)[0].skipped == "専門外です"
    task = kit.feedback.next(campaign, rater="hanako")
    assert task is not None
    seen = shown(rate._on_submit(kit)(request, sent=sent(seen["form"], "", task.run.answer, score="4"), campaign=campaign.id))
    rate._on_submit(kit)(request, sent=sent(seen["form"], "", "直した文", score="2"), campaign=campaign.id)
    assert [event.correction for event in kit.feedback.events(campaign=campaign)] == [None, "直した文"]


def test_a_pair_is_voted_on_and_a_ranking_put_in_order(kit: Kit) -> None:
    pair, seen = start(kit, rubric=None, kind="pairwise")
    assert seen["votes"].visible and not seen["submit"].visible and "data-kind='pairwise'" in seen["task"]
    seen = shown(rate._on_submit(kit, "both_bad")(asked_by("hanako"), sent=sent(seen["form"], "どちらも"), campaign=pair.id))
    (vote,) = kit.store.find(Vote)
    assert (vote.choice, vote.comment, vote.campaign_id, vote.rater) == ("both_bad", "どちらも", pair.id, "hanako")
    back = shown(rate._on_move(kit, -1)(asked_by("hanako"), sent=sent(seen["form"]), campaign=pair.id))
    assert "投票済みです（どちらも不可）" in back["note"] and "どちらも</textarea>" in back["form"]
    order, seen = start(kit, rubric=None, kind="ranking")
    task = kit.feedback.next(order, rater="hanako")
    assert task is not None
    rate._on_submit(kit)(asked_by("hanako"), sent=sent(seen["form"], **{"rank:0": "2", "rank:1": "1"}), campaign=order.id)
    (event,) = kit.feedback.events(campaign=order)
    assert event.scores["ranking"] == [task.runs[1].id, task.runs[0].id]


def test_only_those_it_is_for_rate_and_only_its_owner_closes_or_takes_it_home(kit: Kit) -> None:
    campaign, seen = start(kit, raters=["hanako", "taro"])
    assert "data-token" in seen["form"]
    assert campaign.id not in [id for _, id in whose.campaigns_to_rate(kit, User("mallory"), "ja")]
    for attempt in (
        lambda: rate._on_submit(kit)(asked_by("mallory"), sent=sent(seen["form"], score="4"), campaign=campaign.id),
        lambda: rate._on_skip(kit)(asked_by("mallory"), sent=sent(seen["form"]), campaign=campaign.id, reason="x"),
    ):
        assert "権限がありません" in shown(attempt())["note"]
    form = {"campaign": campaign.id, "kind": "table", "format": "csv", "raw": True}
    for refused in (
        lambda: campaigns._on_close(kit)(asked_by("hanako"), chosen=campaign.id),
        lambda: export._on_write(kit)(asked_by("hanako"), **form),
        lambda: agreement._on_show(kit)(asked_by("mallory"), campaign=campaign.id, criterion=None, wall=False),
        lambda: rate._on_move(kit, 1)(asked_by("mallory"), sent="", campaign=campaign.id),
    ):
        with pytest.raises(gr.Error, match="権限がありません"):
            refused()
    assert kit.store.count(Feedback) == 0 and kit.feedback.campaign(campaign).closed_at is None


def test_a_rater_sees_the_agreement_only_when_through(kit: Kit) -> None:
    campaign, _ = start(kit, k=1)
    show = agreement._on_show(kit)
    assert "先に見ると" in show(asked_by("hanako"), campaign=campaign.id, criterion=None, wall=False)[1]
    assert "まだ評価がありません" in show(asked_by("owner"), campaign=campaign.id, criterion=None, wall=False)[1]
    kit.feedback.close(campaign, by="owner")
    assert "まだ評価がありません" in show(asked_by("hanako"), campaign=campaign.id, criterion=None, wall=False)[1]


def test_ratings_outside_campaigns_show_only_ones_own_answers(kit: Kit) -> None:
    mine, other = add_run(kit, "自分の<b>答え", "hanako"), add_run(kit, "他人の答え", "taro")
    for run in (mine, other):
        for rater, score in (("a", 1), ("b", 5)):
            kit.feedback.rate(run, score, rater=rater, comment="<i>理由")
    _, told, head, board, shown_code = agreement._on_show(kit)(asked_by("hanako"), campaign=agreement.ALL, criterion=None, wall=True)
    assert "自分の&lt;b&gt;答え" in board and "他人の答え" not in board and "1件" in head and "wall" in told
    assert "&lt;i&gt;理由" in board and not any(mark in board for mark in MARKED)
    assert "kit.feedback.agreement(criterion='score')" in shown_code
    file, said, *_ = export._on_write(kit)(asked_by("hanako"), campaign=agreement.ALL, kind="table", format="csv", raw=False)
    rows = list(csv.DictReader(io.StringIO(Path(file.value["path"]).read_bytes().decode("utf-8-sig"))))
    assert {row["run_id"] for row in rows} == {mine.id} and "2行" in said and all(row["rater"].startswith("rater-") for row in rows)


def test_the_board_draws_the_whole_scale_and_the_raters_have_pseudonyms(kit: Kit) -> None:
    run, second = add_run(kit, "答え"), add_run(kit, "別の答え")
    for rater, scores in (("taro", (1, 4)), ("jiro", (5, 4))):
        for each, score in zip((run, second), scores, strict=True):
            kit.feedback.rate(each, score, rater=rater)
    rows = kit.feedback.disagreements(criterion="score")
    board = figures.show_board(rows, {"score": "評価"}, "ja", scales={"score": ["1", "2", "3", "4", "5"]})
    assert board.count("class='count'") == 5 and board.count("class='fill'") == 2 and board.count("0人") == 3
    found = figures.show_agreement(kit.feedback.agreement(criterion="score"), lambda rater: f"仮名{len(rater)}<b>", "taro", "ja")
    assert "taro" not in found and "jiro" not in found and "仮名4&lt;b&gt;（あなた）" in found and "n = 2" in found


def test_a_campaign_is_made_of_ones_own_runs_of_a_file_and_by_a_rubric_of_ones_own(kit: Kit) -> None:
    request = asked_by("hanako")
    with pytest.raises(InputError, match="no answers yet"):
        making.make(kit, request, FIELDS)
    own, other = add_run(kit, "答え", "hanako"), add_run(kit, "他人", "taro")
    made, shown_code = making.make(kit, request, {**FIELDS, "chosen": [own.id, other.id]})
    assert made.owner == "hanako" and made.spec["items"] == 1 and made.spec["rubric"]["name"] == "quality" and other.id not in shown_code
    own_rubric = making.rubric_yaml("score").replace("maximum: 5", "maximum: 7").replace("name: score\nversion", "name: 七段階\nversion")
    made, _ = making.make(kit, request, {**FIELDS, "source": "file", "file": str(ANSWERS), "preset": "score", "yaml": own_rubric, "raters": "others"})
    assert made.spec["rubric"]["criteria"][0]["maximum"] == 7 and made.spec["raters"] == "others" and made.spec["items"] == 20
    made, _ = making.make(kit, request, {**FIELDS, "source": "file", "file": str(ANSWERS), "kind": "pairwise", "raters": "listed", "listed": "a、b\nc"})
    assert made.spec["kind"] == "pairwise" and made.spec["raters"] == ["a", "b", "c"] and made.spec["items"] == 10
    with pytest.raises(InputError):
        making.make(kit, request, {**FIELDS, "raters": "listed", "listed": " ,"})
    with pytest.raises(InputError, match="Choose a file"):
        making.make(kit, request, {**FIELDS, "source": "file"})


def test_a_comparison_of_somebody_else_is_refused(kit: Kit) -> None:
    from llmops_kit.types import Comparison

    kit.store.append(Comparison("c1", now(), "taro", {}))
    with pytest.raises(AccessDenied):
        making.make(kit, asked_by("hanako"), {**FIELDS, "source": "comparison", "comparison": "c1"})


def test_the_list_says_how_far_each_campaign_is_and_closing_names_the_artifact(kit: Kit) -> None:
    campaign = kit.feedback.create("<b>春の評価", path=ANSWERS, owner="owner", k=1)
    listed = dict(zip(campaigns._SHOWN, campaigns._list(kit, asked_by("owner"), User("owner"), campaign.id), strict=True))
    assert listed["table"].value["data"][0][:4] == ["<b>春の評価", "1件ずつ", "0/20", "0/20"] and listed["close"].visible
    assert "http://kit.example:7860/?campaign=" + campaign.id in listed["detail"] and not any(mark in listed["detail"] for mark in MARKED)
    as_rater = dict(zip(campaigns._SHOWN, campaigns._list(kit, asked_by("hanako"), User("hanako"), campaign.id), strict=True))
    assert not as_rater["close"].visible and as_rater["go"].visible
    closed = dict(zip(campaigns._SHOWN, campaigns._on_close(kit)(asked_by("owner"), chosen=campaign.id), strict=True))
    assert "feedback-" in closed["detail"] and ":v1" in closed["detail"] and "W&B" in closed["detail"] and not closed["go"].visible


def run_snippet(text: str) -> dict[str, Any]:
    """Execute a snippet as a notebook would."""
    names: dict[str, Any] = {}
    try:
        exec(compile(text, "snippet", "exec"), names)
    finally:
        names["kit"].close()
    return names


@pytest.mark.parametrize(("kind", "rubric"), [("rate", "quality"), ("rate", "thumb"), ("pairwise", None), ("ranking", None)])
def test_the_code_shown_rates(kit: Kit, kind: str, rubric: str | None) -> None:
    campaign, seen = start(kit, kind=kind, rubric=rubric)
    run_snippet(seen["code"])
    said = [*kit.store.find(Feedback, campaign_id=campaign.id), *kit.store.find(Vote, campaign_id=campaign.id)]
    assert [event.rater for event in said] == ["me"]


def test_the_code_of_campaigns_agreement_and_exports_runs(kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    workspace = kit.settings.workspace
    names = run_snippet(code.campaign_code(workspace, "夏", path=str(ANSWERS), rubric="score", guidelines="", k=1))
    campaign = names["campaign"]
    for rater in ("a", "b"):
        task = kit.feedback.next(campaign, rater=rater)
        assert task is not None
        kit.feedback.submit(task, 4, id=new_id())
    assert run_snippet(code.agreement_code(workspace, campaign.id, "score"))["agreement"].criterion == "score"
    report = run_snippet(code.export_code(workspace, "table", "評価.csv", campaign=campaign.id, pseudonyms=None))["report"]
    assert report.rows == 2 and (tmp_path / "評価.csv").exists()
    assert run_snippet(code.close_code(workspace, campaign.id).replace(f"close({campaign.id!r})", f"close({campaign.id!r}, by='local')"))["artifact"].rows == 2

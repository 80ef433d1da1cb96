"""What the Fine-tune tab shows, launches and refuses, without a browser: data and plan, jobs of one's own, the curve, the bell."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pandas as pd
import pytest

from llmops_kit import Kit, TuneSpec
from llmops_kit.access import User
from llmops_kit.errors import AccessDenied, InputError
from llmops_kit.settings import Settings
from llmops_kit.types import Campaign, Comparison, Job, JobEvent, Vote, new_id, now
from llmops_kit.ui import bell
from llmops_kit.ui.tuning import curve, data, estimating, live, opening, planning, recipe, watch, whose
from llmops_kit.ui.tuning.start import _on_start

HOSTILE = "<img src=x onerror=alert(1)>'\""
FIRST = "sample:first-30"
FORM = {"base": "starter-lm", "preset": "try", "name": ""}


@pytest.fixture
def kit(settings: Settings) -> Iterator[Kit]:
    with Kit(settings) as opened:
        yield opened


def asked_by(user: str, language: str = "ja") -> Any:
    """A request as the page of `user` sends it."""
    return SimpleNamespace(username=user, headers={"accept-language": language, "host": "kit.example:7860"}, cookies={})


def page_of(steps: Iterator[list[Any]]) -> dict[str, Any]:
    """What the Start sub-tab shows at the end, by name; fields of the recipe too."""
    names = [*data.SHOWN, "base", *recipe.SHOWN, *planning.OWN]
    shown: dict[str, Any] = {}
    for step in steps:
        assert len(step) == len(names)
        shown |= {name: value for name, value in zip(names, step, strict=True) if not is_skip(value)}
    return shown


def job_page(updates: list[Any]) -> dict[str, Any]:
    return {name: value for name, value in zip(live.SHOWN, updates, strict=True) if not is_skip(value)}


def is_skip(value: Any) -> bool:
    return isinstance(value, dict) and value == gr.skip()


def fields_of(shown: dict[str, Any]) -> dict[str, Any]:
    """The fields as the page would send them back."""
    return {**FORM, **{name: shown[name]["value"] for name in ("name", *recipe.FIELDS)}}


def plan(kit: Kit, user: str = "hanako", source: str = FIRST, **how: Any) -> dict[str, Any]:
    return page_of(planning.look(kit, asked_by(user), source, FORM, **how))


def add_job(kit: Kit, owner: str, **fields: Any) -> Job:
    given: dict[str, Any] = {"spec": {"base": "starter-lm", "data": FIRST}, "name": "polite", "created_at": now(), **fields}
    job = Job(new_id(), owner=owner, kind="tune", **given)
    kit.store.append(job)
    return job


def add_event(kit: Kit, job: Job, step: int, kind: str, attempt: int = 1, **told: Any) -> None:
    kit.store.append(JobEvent(new_id(), job.id, now(), attempt, step, kind, told))


# --- data and plan


def test_the_tab_opens_on_thirty_rows_that_are_checked_estimated_and_ready(kit: Kit) -> None:
    shown = plan(kit)
    assert "30行中30行" in shown["report"] and shown["start"]["interactive"] is True
    assert "時間" in shown["estimate"] and "GB" in shown["estimate"] and "ステップ" in shown["estimate"]
    assert "お待たせしました" in shown["preview"].replace("</span>", "").replace("<wbr>", "") or "損失" in shown["preview"]
    assert shown["mapping"]["visible"] is False and shown["encoding"]["visible"] is False
    assert TuneSpec.read(shown["yaml"]) == TuneSpec(**shown["asked"]["spec"]).change(data=FIRST)
    assert "kit.tuning.launch(spec)" in shown["code"]


def test_wrong_rows_are_named_by_line_and_reason_and_markup_stays_text(kit: Kit, tmp_path: Path) -> None:
    good = "\n".join(f'{{"prompt": "問い{n}{HOSTILE[:4]}", "completion": "答え{n}"}}' for n in range(12))
    (tmp_path / "rows.jsonl").write_text(f'{good}\n{{"prompt": "", "completion": "<b>x</b>"}}\nno json\n', encoding="utf-8")
    shown = plan(kit, source=str(tmp_path / "rows.jsonl"))
    assert "使わない行（2行）" in shown["report"] and "<td>13</td>" in shown["report"] and "<td>14</td>" in shown["report"]
    assert "<b>x" not in shown["report"] and "<img" not in shown["preview"]
    assert "rows.jsonl" in shown["yaml"] and str(tmp_path / "rows") not in shown["yaml"] + shown["code"]


def test_columns_with_names_of_their_own_are_asked_for_and_then_read(kit: Kit, tmp_path: Path) -> None:
    path = tmp_path / "社内.csv"
    path.write_bytes("\r\n".join(["甲,乙", *(f"用件{n}です,承知しました{n}" for n in range(12))]).encode("cp932"))
    shown = plan(kit, source=str(path))
    assert shown["mapping"] == {"visible": True, "open": True, "__type__": "update"} and "列の対応" in shown["report"]
    assert ("甲", "甲") in shown["column_prompt"]["choices"] and "spec" not in shown["asked"]
    assert shown["encoding"]["visible"] is True and shown["encoding"]["value"] == "cp932"
    again = plan(kit, source=str(path), how={"columns": {"prompt": "甲", "answer": "乙"}, "encoding": "cp932"})
    assert "12行中12行" in again["report"] and again["asked"]["spec"]["columns"] == {"prompt": "甲", "answer": "乙"}
    assert "columns={'prompt': '甲', 'answer': '乙'}" in again["code"]


@pytest.mark.parametrize("content", [b"", b"\x80\x04\x95\x05\x00", b'{"prompt": "a", "completion": "b"}\n'], ids=["empty", "pickle", "one row"])
def test_what_cannot_be_trained_on_is_told_and_cannot_be_started(kit: Kit, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rows.jsonl").write_bytes(content)
    shown = plan(kit, source=str(tmp_path / "rows.jsonl"))
    assert shown["start"]["interactive"] is False and "alarm" in shown["report"] and "spec" not in shown["asked"]


def test_a_field_that_does_not_serve_is_told_beside_the_estimate_and_mends(kit: Kit) -> None:
    shown = plan(kit)
    wrong = page_of(planning.change(kit, asked_by("hanako"), shown["asked"], {**fields_of(shown), "learning_rate": 10}))
    assert "10" in wrong["estimate"] and "発散" in wrong["estimate"] and wrong["start"]["interactive"] is False
    typed = {**fields_of(shown), "rank": 4, "name": " Polite "}
    mended = page_of(planning.change(kit, asked_by("hanako"), wrong["asked"], typed))
    assert mended["start"]["interactive"] is True and mended["asked"]["spec"]["rank"] == 4 and mended["asked"]["spec"]["name"] == "polite"
    assert not set(recipe.FIELDS) & set(mended), "a field the person may be typing in is left alone"
    assert page_of(planning.change(kit, asked_by("hanako"), mended["asked"], typed)) == {}


def test_start_takes_the_base_and_preset_on_the_page_even_before_they_are_planned(kit: Kit) -> None:
    shown = plan(kit)
    fields = {**fields_of(shown), "rank": 3, "name": "mine"}
    assert planning.spec_to_start(kit, shown["asked"], fields).rank == 3
    spec = planning.spec_to_start(kit, shown["asked"], {**fields, "preset": "thorough"})
    assert (spec.preset, spec.name) == ("thorough", "mine") and spec == TuneSpec(**page_of(
        planning.plan(kit, asked_by("hanako"), shown["asked"], {**fields, "preset": "thorough"}))["asked"]["spec"])  # fmt: skip


def test_another_base_keeps_what_was_set_by_hand_and_another_preset_does_not(kit: Kit) -> None:
    shown = plan(kit)
    hand = {**fields_of(shown), "rank": 3, "name": "mine"}
    same = page_of(planning.plan(kit, asked_by("hanako"), shown["asked"], hand))
    assert (same["asked"]["spec"]["rank"], same["asked"]["spec"]["name"]) == (3, "mine")
    other = page_of(planning.plan(kit, asked_by("hanako"), same["asked"], {**fields_of(same), "preset": "thorough"}))
    assert other["asked"]["spec"]["rank"] != 3 and other["asked"]["spec"]["name"] == "mine" and other["asked"]["spec"]["preset"] == "thorough"


def test_yaml_is_taken_but_names_no_file_of_this_computer(kit: Kit, tmp_path: Path) -> None:
    shown = plan(kit)
    text = shown["yaml"].replace(f"data: {FIRST}", "data: /etc/passwd")
    assert text != shown["yaml"]
    with pytest.raises(InputError, match="passwd"):
        list(planning.take_yaml(kit, asked_by("hanako"), shown["asked"], text, FORM))
    taken = page_of(planning.take_yaml(kit, asked_by("hanako"), shown["asked"], f"data: {FIRST}\nrank: 5\n", FORM))
    assert taken["asked"]["spec"]["rank"] == 5 and taken["rank"]["value"] == 5
    other = page_of(planning.take_yaml(kit, asked_by("hanako"), shown["asked"], "data: sample:overfitting\nepochs: 2\n", FORM))
    assert other["asked"]["spec"]["data"] == "sample:overfitting" and other["asked"]["spec"]["epochs"] == 2.0
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError):
        planning.read_text(str(tmp_path / "x.yaml"))


def test_ratings_of_somebody_elses_campaign_are_refused(kit: Kit) -> None:
    kit.store.append(Campaign("c1", now(), "taro", "社外秘", {"kind": "rate"}))
    request = asked_by("hanako")
    with pytest.raises(AccessDenied):
        data.chosen(kit, request, {"source": "campaign", "campaign": "campaign:c1"})
    with pytest.raises(AccessDenied):
        list(planning.take_yaml(kit, request, plan(kit)["asked"], "data: campaign:c1\n", FORM))
    assert data.choices(kit, User("hanako"), "ja")["campaign"] == []
    assert data.choices(kit, User("taro"), "ja")["campaign"] == [("社外秘", "campaign:c1")]


def test_votes_on_a_comparison_are_offered_to_who_made_it_alone(kit: Kit) -> None:
    spec = {"open": True, "rows": [{}, {}], "variants": [{}, {}]}
    for id in ("voted", "unvoted"):
        kit.store.append(Comparison(id, now(), "taro", spec))
    kit.store.append(Vote("v", now(), "hanako", "compare:voted:1", "r1", "r2", "one", "two", "A"))
    ((told, value),) = data.choices(kit, User("taro"), "ja")["campaign"]
    assert told.startswith("比較の投票：") and value == "comparison:voted"
    assert data.chosen(kit, asked_by("taro"), {"source": "campaign", "campaign": value}) == value
    assert planning._source_of(value) == "campaign" and planning._source_of("/tmp/comparison.csv") == "file"
    assert data.choices(kit, User("hanako"), "ja")["campaign"] == []
    for id in ("voted", "missing"):
        with pytest.raises((AccessDenied, InputError)):
            data.chosen(kit, asked_by("hanako"), {"source": "campaign", "campaign": f"comparison:{id}"})


def test_only_models_with_weights_here_are_offered_as_bases(kit: Kit) -> None:
    names = recipe.tunable(kit)
    assert "starter-lm" in names and not {"starter-reader", "gpt-5.4-mini", "starter-embed"} & set(names)


def test_the_spec_in_the_drawer_runs_up_to_the_launch(kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = plan(kit)
    snippet = shown["code"].partition("job = ")[0]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(snippet, "snippet", "exec"), names)
    names["kit"].close()
    assert names["spec"] == TuneSpec(**shown["asked"]["spec"]) and names["report"].kept == 30


def test_what_does_not_fit_says_what_would(kit: Kit) -> None:
    estimate = kit.tuning.estimate(TuneSpec(**plan(kit)["asked"]["spec"]))
    small = replace(estimate, fits=False, advice={"en": "Choose <b>", "ja": "<b>を選ぶ"}, cost_usd=1.5, device="cuda")
    shown = estimating.show_estimate(small, "ja")
    assert "動きません" in shown and "&lt;b&gt;を選ぶ" in shown and "$1.50" in shown and "<b>を" not in shown


# --- launching and watching


def test_start_pressed_twice_is_one_job_and_another_person_does_not_see_it(kit: Kit) -> None:
    request, press = asked_by("hanako"), _on_start(kit)
    shown = plan(kit)
    fields = {**fields_of(shown), "max_steps": 2, "wandb": False}
    first = press(request, asked=shown["asked"], **fields)
    again = press(request, asked=shown["asked"], **fields)
    job = kit.jobs.find()[0]
    try:
        assert len(kit.jobs.find()) == 1 and job.owner == "hanako" and job.spec["max_steps"] == 2
        assert first[0]["id"] != shown["asked"]["id"] == job.id and job_page(again[2:])["chooser"]["value"] == job.id
        assert "hanako" not in str(job_page(watch.opener(kit)(asked_by("taro"), job=job.id)))
        assert job_page(watch.opener(kit)(asked_by("taro"), job=job.id))["chooser"]["visible"] is False
        for call in (watch._on_act(kit, "cancel"), watch._on_act(kit, "resume"), watch._on_choose(kit)):
            with pytest.raises(gr.Error):
                call(asked_by("taro"), job=job.id)
        assert kit.jobs.get(job.id).cancelled_by is None
    finally:
        kit.jobs.cancel(job.id, by=User("f", "facilitator"))
    assert kit.jobs.wait(job.id, timeout_s=120, progress=False).has_ended


def test_a_person_comes_back_to_their_own_running_job(kit: Kit) -> None:
    old = add_job(kit, "hanako", state="running", created_at=now() - timedelta(hours=1))
    add_job(kit, "hanako", state="finished")
    add_job(kit, "taro", state="running")
    assert whose.newest_job(kit, User("hanako")) == kit.jobs.get(old.id)
    assert whose.count_others(kit, User("hanako")) == 1 and whose.newest_job(kit, User("jiro")) is None
    led = opening._on_tab(kit)(asked_by("hanako"), job=None, led=False)
    assert led[0].selected == "jobs" and job_page(led[2:])["chooser"]["value"] == old.id
    assert opening._on_tab(kit)(asked_by("hanako"), job=None, led=True)[1] is True
    assert "サンプル" in str(job_page(watch.opener(kit)(asked_by("jiro"), job=None))["empty"])


def test_a_look_sends_only_what_changed_and_ends_with_the_job(kit: Kit) -> None:
    job, request = add_job(kit, "hanako", state="running", attempt=1, progress={"step": 1, "steps": 10, "tokens_per_s": 900.0}), asked_by("hanako")
    add_event(kit, job, 0, "eval", eval_loss=3.0, token_accuracy=0.2)
    shown = job_page(live.draw(kit, request, job.id))
    assert "10ステップ中1" in shown["bar"] and "900トークン/秒" in shown["bar"] and shown["cancel"]["visible"] is True and shown["timer"].active
    assert job_page(live.follow(kit, request, job.id, 0, shown["seen"])) == {}
    result, took = {"model": "starter-lm+x", "eval_loss": 1.0, "seconds": 3.0}, {"started_at": now() - timedelta(seconds=5), "ended_at": now()}
    with kit.store.change() as change:
        change.update(Job, job.id, progress={"step": 10, "steps": 10}, state="finished", result=result, **took)
    end = job_page(live.follow(kit, request, job.id, 0, shown["seen"]))
    assert end["result"]["visible"] is True and end["model"] == "starter-lm+x" and end["timer"].active is False and "完了" in end["card"]
    assert "evaluation" not in end["facts"] and "5秒" in end["facts"]


def test_why_a_job_ended_is_told_in_the_readers_language_and_it_can_go_on(kit: Kit) -> None:
    job = add_job(kit, "hanako", state="failed", attempt=2, reason={"code": "out_of_memory", "en": "Out of memory.", "ja": "メモリが足りません。"})
    for language, told in (("ja", "メモリが足りません"), ("en", "Out of memory")):
        shown = job_page(live.draw(kit, asked_by("hanako", language), job.id))
        assert told in shown["card"] and shown["resume"]["visible"] is True and shown["cancel"]["visible"] is False


def test_nothing_of_a_sample_a_note_or_a_log_is_markup(kit: Kit) -> None:
    job, request = add_job(kit, "hanako", state="running", name="x", attempt=1, progress={"step": 4, "steps": 8}), asked_by("hanako")
    for step, text in ((2, "early"), (4, HOSTILE)):
        add_event(kit, job, step, "sample", prompt=HOSTILE, expected=HOSTILE, base=HOSTILE, text=text)
    for rank, loss in (("best", 0.1), ("worst", 9.0)):
        add_event(kit, job, 4, "example", rank=rank, loss=loss, prompt=HOSTILE, expected=None, text=HOSTILE)
    add_event(kit, job, 0, "note", en=HOSTILE, ja=HOSTILE)
    folder = kit.jobs.folder(job.id)
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text(HOSTILE, encoding="utf-8")
    shown = job_page(live.draw(kit, request, job.id))
    assert "<img" not in str(shown) and all("&lt;img" in shown[name] for name in ("samples", "examples", "notes", "log"))
    assert shown["examples"].index("9.000") < shown["examples"].index("0.100") and "early" not in shown["samples"]
    assert "early" in live.show_step(kit, job, 2, "ja") and shown["step"]["choices"] == [("最新", 0), ("ステップ2の後", 2)]


def test_the_curve_draws_what_there_is_and_keeps_to_its_field() -> None:
    assert "曲線" in curve.show_curve(pd.DataFrame(columns=["step", "loss", "eval_loss"]), None, "ja")
    rows = [{"step": n, "loss": math.nan if n == 7 else 3 / (n + 1)} for n in range(1, 2001)]
    rows += [{"step": n, "eval_loss": 3 - n / 1000} for n in (0, 1000, 2000)]
    drawn = curve.show_curve(pd.DataFrame(rows), 2000, "en")
    places = [float(place) for place in re.findall(r"(?:left|top):(-?[\d.]+)%", drawn)]
    points = re.search(r"class='train' points='([^']+)'", drawn)
    assert places and all(-0.01 <= place <= 100.01 for place in places)
    assert points is not None and len(points[1].split()) <= 240 and "nan" not in drawn
    assert "mean of 9 steps" in drawn and "from 3.000 to 1.000 over 3" in drawn and len(re.findall("class='dot( best)?'", drawn)) == 3
    single = curve.show_curve(pd.DataFrame([{"step": 0, "eval_loss": 2.0}]), 10, "ja")
    assert single.count("class='dot'") == 1 and "nan" not in single


def test_the_bell_says_how_far_ones_own_jobs_are(kit: Kit) -> None:
    request = asked_by("hanako")
    assert bell.tell(kit, request) == "ジョブ"
    add_job(kit, "taro", state="running", progress={"step": 1, "steps": 2})
    assert bell.tell(kit, request) == "ジョブ"
    job = add_job(kit, "hanako", heartbeat_at=now())
    assert bell.tell(kit, request) == "順番待ち1番目"
    with kit.store.change() as change:
        change.update(Job, job.id, state="running", progress={"step": 30, "steps": 40, "seconds_left": 12})
    assert bell.tell(kit, request) == "学習中75%" and bell.tell(kit, asked_by("hanako", "en")) == "75%"
    opened = bell._on_open(kit)(request, shown=False)
    assert opened[3] == [job.id] and "75%" in opened[4]["value"] and "12秒" in opened[4]["value"]
    led = bell._on_row(kit, 0)(request, ids=opened[3])
    assert led[2].selected == "tuning" and led[3].selected == "jobs"
    with pytest.raises(gr.Error):
        bell._on_row(kit, 0)(asked_by("taro"), ids=opened[3])

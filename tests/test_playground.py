"""The playground on the shipped model and on endpoints that misbehave: one Run per call, whatever became of it."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_kit import open_kit
from llmops_kit.errors import EndpointError, InvalidValue, KitError, MissingVariable, PromptTooLong, UnknownName
from llmops_kit.kit import Kit
from llmops_kit.playground.grid import stream_grid
from llmops_kit.types import Message, Prompt, Run
from tests.faulty_server import KEY, FaultyServer

TEXT = "図書館は来月から夜9時まで開きます。週末は変わりません。"
DETERMINISTIC = {"temperature": 0, "max_tokens": 24}


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    with open_kit(tmp_path_factory.mktemp("kit"), request_timeout_s=1.0, connect_timeout_s=1.0, local_threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    running = FaultyServer()
    yield running
    running.stop()


def last_run(kit: Kit) -> Run:
    return kit.playground.history(limit=1)[0]


def test_a_run_carries_everything_and_is_the_stored_one(kit: Kit) -> None:
    run = kit.playground.run("summarize", variables={"text": TEXT}, model="starter-lm", participant="p7", **DETERMINISTIC)
    assert kit.playground.get(run.id) == run
    assert (run.participant, run.app, run.model, run.prompt_name, run.prompt_version) == ("p7", "playground", "starter-lm", "summarize", 1)
    assert run.variables == {"text": TEXT} and TEXT in run.messages[-1].content
    assert run.params["temperature"] == 0 and run.params["max_tokens"] == 24
    assert run.finish_reason in ("stop", "length") and run.error is None
    assert run.input_tokens and run.output_tokens and run.output_tokens <= 24
    assert run.ttft_s and run.latency_s and run.ttft_s <= run.latency_s
    assert run.model_revision and len(run.prompt_sha256) == 64
    assert kit.store.unsent(limit=10_000)[-1].record_id == run.id


def test_run_is_the_last_item_of_stream_and_the_answer_grows(kit: Kit) -> None:
    grown = list(kit.playground.stream("summarize", variables={"text": TEXT}, **DETERMINISTIC))
    outputs = [run.output for run in grown]
    assert outputs == sorted(outputs, key=len) and len(set(outputs)) > 3
    assert grown[0].output == "" and TEXT in grown[0].messages[-1].content
    assert kit.playground.get(grown[-1].id) == grown[-1]
    assert kit.store.count(Run, id=grown[0].id) == 1


def test_the_same_seed_and_temperature_0_reproduce(kit: Kit) -> None:
    def ask(**params: float) -> str:
        return kit.playground.run("summarize", variables={"text": TEXT}, max_tokens=24, **params).output

    assert ask(temperature=0) == ask(temperature=0)
    assert ask(temperature=1.0, seed=5) == ask(temperature=1.0, seed=5)
    assert len({ask(temperature=1.5, seed=seed) for seed in range(6)}) > 1


def test_closing_the_stream_stops_the_model_and_keeps_what_was_said(kit: Kit) -> None:
    stream = kit.playground.stream([{"role": "user", "content": TEXT}], model="starter-lm", temperature=1.2, seed=3, max_tokens=1500)
    run = next(run for run in stream if len(run.output) > 5)
    started = time.monotonic()
    stream.close()  # type: ignore[attr-defined]
    assert time.monotonic() - started < 5
    stored = kit.playground.get(run.id)
    assert stored is not None and stored.finish_reason == "cancelled" and stored.output.startswith(run.output)
    assert stored.error is None and stored.output_tokens and stored.output_tokens < 1500
    assert kit.playground.under_way == 0


def test_two_streams_at_once_do_not_mix(kit: Kit) -> None:
    alone = [kit.playground.run([Message("user", text)], model="starter-lm", **DETERMINISTIC).output for text in ("東京", "list three fruits")]
    together: dict[int, str] = {}

    def ask(index: int, text: str) -> None:
        together[index] = kit.playground.run([Message("user", text)], model="starter-lm", **DETERMINISTIC).output

    threads = [threading.Thread(target=ask, args=pair) for pair in enumerate(("東京", "list three fruits"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[0], together[1]] == alone


def test_a_system_prompt_replaces_the_prompts_own(kit: Kit) -> None:
    prompt = Prompt(name="greet", messages=(Message("system", "old"), Message("user", "hi {{name}}")))
    run = kit.playground.run(prompt, variables={"name": "海"}, system="new", model="starter-lm", **DETERMINISTIC)
    assert run.messages == (Message("system", "new"), Message("user", "hi 海"))


@pytest.mark.parametrize(
    ("call", "kind", "named"),
    [
        ({"prompt": "summarize", "variables": {"text": "  "}}, MissingVariable, "text"),
        ({"prompt": "summarize", "variables": {}}, MissingVariable, "text"),
        ({"prompt": "summarize", "variables": {"text": TEXT}, "model": "gpt-99"}, UnknownName, "gpt-99"),
        ({"prompt": "summarize", "variables": {"text": TEXT}, "temperature": 9}, InvalidValue, "9"),
        ({"prompt": "summarize", "variables": {"text": TEXT}, "temprature": 1}, InvalidValue, "temprature"),
        ({"prompt": "summarize", "variables": {"text": "あ" * 1_000_000}}, PromptTooLong, "starter-lm"),
        ({"prompt": "summarize", "variables": {"text": "x" * 10_000_000}}, InvalidValue, "10,000,0.. characters"),
    ],
    ids=["blank", "missing", "unknown model", "temperature", "misspelt", "1 MB", "10 MB"],
)
def test_bad_input_is_a_clear_error_and_a_recorded_run(kit: Kit, call: dict, kind: type[KitError], named: str) -> None:
    prompt = call.pop("prompt")
    with pytest.raises(kind, match=named) as failed:
        kit.playground.run(prompt, **call)
    run = last_run(kit)
    assert run.error == str(failed.value) and run.finish_reason == "error"
    assert failed.value.run is not None and failed.value.run.id == run.id
    assert failed.value.text("ja") != failed.value.text("en")
    assert sum(len(turn.content) for turn in run.messages) < 3_000_000


@pytest.mark.parametrize(
    ("prompt", "kind", "named"),
    [
        ("no-such-prompt", UnknownName, "no-such-prompt"),
        ([], MissingVariable, "message"),
        ([{"role": "user", "content": "  "}], MissingVariable, "message"),
        (Prompt(name="", messages=()), MissingVariable, "message"),
        ([{"role": "user"}], InvalidValue, "role"),
        ([{"content": "hi"}], InvalidValue, "hi"),
        ([{"role": "robot", "content": "hi"}], InvalidValue, "robot"),
        ([{"role": "user", "content": None}], InvalidValue, "None"),
        ([{"role": "user", "content": [{"type": "image"}]}], InvalidValue, "image"),
        (["hi"], InvalidValue, "hi"),
        ({"role": "user", "content": "hi"}, InvalidValue, "prompt"),
        (7, InvalidValue, "7"),
        (None, InvalidValue, "None"),
        ([{"role": "x" * 10_000}], InvalidValue, "…"),
    ],
)
def test_a_prompt_that_is_none_is_refused_and_recorded(kit: Kit, prompt: object, kind: type[KitError], named: str) -> None:
    before = kit.store.count(Run)
    with pytest.raises(kind, match=named) as failed:
        kit.playground.run(prompt, model="starter-lm", variables={"text": TEXT}, participant="p9")  # type: ignore[arg-type]
    run = last_run(kit)
    assert kit.store.count(Run) == before + 1
    assert failed.value.run == run and run.error == str(failed.value) and run.finish_reason == "error"
    assert (run.participant, run.model, run.variables) == ("p9", "starter-lm", {"text": TEXT})
    assert run.prompt_name == (prompt if isinstance(prompt, str) else None)
    assert len(failed.value.text("ja")) < 500
    assert kit.playground.under_way == 0


def test_variables_that_are_no_mapping_are_refused_and_recorded(kit: Kit) -> None:
    with pytest.raises(InvalidValue, match="variables"):
        kit.playground.run("summarize", variables=[TEXT])  # type: ignore[arg-type]
    assert "variables" in (last_run(kit).error or "")


def test_the_keywords_are_spelled_out_for_the_tab_key(kit: Kit) -> None:
    streamed, run = (inspect.signature(verb).parameters for verb in (kit.playground.stream, kit.playground.run))
    assert list(run) == list(streamed) and {"model", "variables", "system", "participant", "api_key"} < set(run)
    grid = inspect.signature(kit.playground.grid).parameters
    options = inspect.signature(stream_grid).parameters
    assert set(grid) == (set(options) - {"playground", "store"}) | {"progress"}
    assert all(options[name].default == grid[name].default for name in set(options) & set(grid))


def test_the_models_are_named_by_the_keyword_model(kit: Kit) -> None:
    assert kit.models.state(model="starter-lm").is_ready
    assert kit.models.chat(model="starter-lm") is kit.models.chat("starter-lm")
    assert kit.models.check(model="starter-lm") == kit.models.check(id="starter-lm") == kit.models.check("starter-lm")
    with pytest.raises(UnknownName):
        kit.models.check()


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
@pytest.mark.parametrize("fault", ["stall", "cut", "broken_json", "wrong_shape", "bare_list", "stall_after_one"])
def test_an_endpoint_that_misbehaves_is_an_error_in_two_languages_and_a_recorded_run(kit: Kit, server: FaultyServer, fault: str) -> None:
    kit.models.add(f"bad-{fault}", provider="openai", base_url=server.url(fault), model="remote-1")
    started = time.monotonic()
    with pytest.raises(EndpointError, match=f"bad-{fault}") as failed:
        kit.playground.run("summarize", variables={"text": TEXT}, model=f"bad-{fault}", api_key=KEY)
    assert time.monotonic() - started < 20
    run = last_run(kit)
    assert run.error == str(failed.value) and run.model == f"bad-{fault}"
    assert KEY not in run.error and KEY not in str(run)


def test_a_dead_endpoint_says_so(kit: Kit) -> None:
    kit.models.add("dead", provider="openai", base_url="http://127.0.0.1:9/v1", model="x")
    with pytest.raises(EndpointError, match="dead"):
        kit.playground.run("summarize", variables={"text": TEXT}, model="dead", api_key=KEY)
    assert last_run(kit).error


def test_a_good_endpoint_streams_counts_and_costs(kit: Kit, server: FaultyServer) -> None:
    prices = {"price_in_per_mtok": 1.0, "price_out_per_mtok": 2.0, "price_date": "2026-11-22"}
    kit.models.add("good", provider="openai", base_url=server.url("good"), model="remote-1", **prices)
    run = kit.playground.run([{"role": "user", "content": "hi"}], model="good", api_key=KEY)
    assert run.output == "こんにちは。" and (run.input_tokens, run.output_tokens) == (7, 3)
    assert run.cost == pytest.approx(13e-6) and run.model_revision == "fp_7"
    assert KEY not in str(kit.store.get(Run, run.id))


def test_every_prompt_of_the_library_runs_offline_with_its_example(kit: Kit) -> None:
    from llmops_kit.prompts import example_values

    for name in kit.prompts.names():
        for language in ("ja", "en"):
            prompt = kit.prompts.get(name)
            run = kit.playground.run(prompt, variables=example_values(prompt, language), max_tokens=8, temperature=0)
            assert run.output and run.error is None, name


def test_a_run_shows_itself_in_a_notebook(kit: Kit) -> None:
    run = kit.playground.run("summarize", variables={"text": TEXT}, **DETERMINISTIC)
    shown = run._repr_markdown_()
    assert run.output in shown and "starter-lm" in shown and "tokens" in shown


def test_history_is_newest_first_and_by_participant(kit: Kit) -> None:
    for participant in ("anna", "ben", "anna"):
        kit.playground.run([{"role": "user", "content": "hi"}], model="starter-lm", participant=participant, max_tokens=2)
    annas = kit.playground.history(participant="anna")
    assert len(annas) == 2 and annas[0].created_at > annas[1].created_at
    both = kit.playground.history(participant=["anna", "ben"])
    assert [run.participant for run in both] == ["anna", "ben", "anna"]
    assert kit.playground.history(participant=[]) == kit.playground.history(participant="") == []


def test_a_workspace_can_be_reopened(tmp_path: Path) -> None:
    with open_kit(tmp_path) as first:
        run = first.playground.run([{"role": "user", "content": "hi"}], model="starter-lm", max_tokens=2)
    with open_kit(tmp_path) as second:
        assert second.playground.get(run.id) == run

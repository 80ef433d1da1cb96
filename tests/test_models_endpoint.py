"""Chat models behind an address: what is sent, what is understood, and every fault of a server in both languages."""

from __future__ import annotations

import logging
import socket
import threading
import time

import pytest
from langchain_core.messages import AIMessageChunk

from llmops_kit import open_kit
from llmops_kit.errors import EndpointError, InvalidValue, KitError, ModelNotReady
from llmops_kit.models.catalogue import ModelEntry
from llmops_kit.models.decoding import TextFilter
from llmops_kit.models.endpoint import OPENAI_URL, EndpointChat, _Answer
from tests import faulty_server
from tests.faulty_server import KEY, USAGE, FaultyServer, event

LIMIT_S = 1.0


@pytest.fixture
def server():
    running = FaultyServer()
    yield running
    running.stop()


def make_chat(base_url, *, key=KEY, **fields):
    entry = ModelEntry(id="far", provider="openai", model="remote", base_url=base_url, **fields)
    return EndpointChat(entry=entry, api_key=key, connect_timeout_s=0.2, request_timeout_s=LIMIT_S)


def test_an_answer_streams_with_usage_and_metadata(server):
    chunks = list(make_chat(server.url("good")).stream("Hi", temperature=0.5, top_p=0.9, seed=3, max_tokens=20, stop=["。。"]))
    assert [chunk.text for chunk in chunks if chunk.text] == ["こん", "にちは", "。"]
    last = chunks[-1]
    assert last.chunk_position == "last"
    assert last.usage_metadata == {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
    assert last.response_metadata == {"model_name": "remote-1", "model_revision": "fp_7", "finish_reason": "stop"}
    sent = server.bodies[0]
    wanted = {"model": "remote", "temperature": 0.5, "top_p": 0.9, "seed": 3, "max_tokens": 20, "stop": ["。。"], "stream": True}
    assert {name: sent[name] for name in wanted} == wanted
    assert sent["stream_options"] == {"include_usage": True}
    assert "max_completion_tokens" not in sent


def test_only_what_was_said_is_sent(server):
    make_chat(server.url("good")).invoke("Hi", top_k=0, repetition_penalty=1.0)
    assert set(server.bodies[0]) == {"model", "messages", "stream", "stream_options"}


def test_further_parameters_go_to_servers_whose_entry_lists_them(server):
    chat = make_chat(server.url("good"), default_params={"top_k": 20, "repetition_penalty": 1.0})
    chat.invoke("Hi", repetition_penalty=1.1)
    assert (server.bodies[0]["top_k"], server.bodies[0]["repetition_penalty"]) == (20, 1.1)
    with pytest.raises(InvalidValue, match="top_k"):
        make_chat(server.url("good")).invoke("Hi", top_k=20)
    assert len(server.bodies) == 1


def test_openai_itself_gets_its_own_name_for_max_tokens():
    entry = ModelEntry(id="gpt", provider="openai", model="gpt-4o-mini")
    assert EndpointChat(entry=entry)._make_payload({"max_tokens": 5}) == {"max_tokens": 5}  # the client renames it
    other = entry.model_copy(update={"base_url": "http://127.0.0.1:8000/v1"})
    assert EndpointChat(entry=other)._make_payload({"max_tokens": 5}) == {"extra_body": {"max_tokens": 5}}
    assert OPENAI_URL.startswith("https://")


def test_a_stop_text_holds_though_the_server_is_deaf_to_it(server):
    shown = ""
    for chunk in make_chat(server.url("deaf")).stream("Hi", stop=["END"]):
        shown += chunk.text
        assert "abc ".startswith(shown)
        last = chunk
    assert (shown, last.response_metadata["finish_reason"]) == ("abc ", "stop")


def test_length_and_missing_usage_are_told_as_they_are(server):
    long = make_chat(server.url("long")).invoke("Hi")
    assert (long.text, long.response_metadata["finish_reason"]) == ("aaaaa", "length")
    assert make_chat(server.url("no_usage")).invoke("Hi").usage_metadata is None


def test_a_filtered_answer_says_so_all_the_way_to_the_run(server, tmp_path, monkeypatch):
    filtered = [event("言え"), event(finish="content_filter"), event(usage=USAGE), b"data: [DONE]\n\n"]
    monkeypatch.setattr(faulty_server, "GOOD", filtered)
    assert make_chat(server.url("good")).invoke("Hi").response_metadata["finish_reason"] == "content_filter"
    with open_kit(tmp_path) as kit:
        kit.models.add("far", provider="openai", base_url=server.url("good"), model="remote")
        run = kit.playground.run([{"role": "user", "content": "Hi"}], model="far", api_key=KEY)
        assert (run.output, run.finish_reason, run.error) == ("言え", "content_filter", None)
        assert kit.playground.get(run.id) == run and "content_filter" in run.facts()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"status": "completed", "incomplete_details": None}, "stop"),
        ({"finish_reason": "tool_calls"}, "stop"),
    ],
)
def test_why_an_answer_ended_is_understood_in_the_words_of_both_interfaces(said, reason):
    answer = _Answer(TextFilter())
    answer.add(AIMessageChunk(content="a", response_metadata=said))
    assert answer.metadata("m")["finish_reason"] == reason


def test_a_request_that_failed_before_its_first_token_is_tried_once_more(server):
    assert make_chat(server.url("once_503")).invoke("Hi").text == "こんにちは。"
    assert len(server.bodies) == 2


def test_closing_the_stream_hangs_up(server):
    stream = make_chat(server.url("endless")).stream("Hi")
    assert next(stream).text == "x"
    stream.close()
    assert server.hung_up.wait(5)


def test_closing_a_silent_stream_hangs_up_and_leaves_no_thread(server):
    stream = make_chat(server.url("stall_after_one")).stream("Hi")
    assert next(stream).text == "x"
    stream.close()
    deadline = time.monotonic() + LIMIT_S / 2  # sooner than the client's own time-out
    while any(thread.name == "endpoint-reader" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- faults ------------------------------------------------------------------------------------------------------------

FAULTS = {
    "stall": "silent for 1 s",
    "stall_after_one": "silent for 1 s",
    "drip_headers": "silent for 1 s",
    "drip_body": "silent for 1 s",
    "keepalives": "silent for 1 s",
    "cut": "broke off",
    "cut_in_chunk": "broke off",
    "broken_json": "nothing that can be read",
    "wrong_shape": "nothing that can be read",
    "bare_list": "nothing that can be read",
    "deep_json": "nothing that can be read",
    "not_utf8": "nothing that can be read",
    "error_inside": "CUDA out of memory",
    "empty": "nothing that can be read",
    "only_done": "nothing that can be read",
    "html": "text/html",
    "plain_json": "application/json",
    "huge_event": "more than an answer can hold",
    "huge_error": "more than an answer can hold",
    "401": "refuses the key",
    "403": "refuses the key",
    "404": "knows no model “remote”",
    "400": "status 400",
    "422": "temperature must be a number",
    "429": "status 429",
    "429_later": "come back in 40 s",
    "500": "kernel panic",
    "redirect": "redirects",
}


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_of_a_server_is_told_in_both_languages_in_time(server, fault, caplog):
    caplog.set_level(logging.DEBUG)
    chat = make_chat(server.url(fault))
    began = time.monotonic()
    with pytest.raises(EndpointError) as caught:
        chat.invoke("こんにちは")
    assert time.monotonic() - began < 2 * LIMIT_S + 3
    error = caught.value
    assert FAULTS[fault] in error.text("en")
    assert "「far」のサーバー" in error.text("ja")
    assert any("\u3040" <= letter <= "\u30ff" for letter in error.facts["reason_ja"])
    assert_key_is_nowhere(error, chat, caplog.text)


def assert_key_is_nowhere(error, chat, log):
    causes = [error]
    while causes[-1] is not None:
        causes.append(causes[-1].__cause__ or causes[-1].__context__)
    said = "".join(map(str, [str(error), repr(error), error.facts, causes, repr(chat), chat._identifying_params, chat._get_llm_string(), log]))
    assert KEY not in said
    assert causes[1] is None or isinstance(causes[1], KitError)  # a client's error would hold the request and its headers


def test_nobody_listens():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        chat = make_chat(f"http://127.0.0.1:{unused.getsockname()[1]}/v1")
        with pytest.raises(EndpointError, match=r"no server listens at 127\.0\.0\.1"):
            chat.invoke("Hi")


def test_a_server_that_never_accepts():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]  # fills the queue, so that a further connection stays unanswered
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        with pytest.raises(EndpointError, match=r"could not be reached within 0\.2 s"):
            make_chat(f"http://127.0.0.1:{full.getsockname()[1]}/v1").invoke("Hi")
        for client in waiting:
            client.close()


def test_an_unknown_host():
    with pytest.raises(EndpointError, match=r"host name in no-such-host\.invalid"):
        make_chat("http://no-such-host.invalid/v1").invoke("Hi")


def test_an_address_without_encryption_where_it_is_expected(server):
    with pytest.raises(EndpointError, match="encryption"):
        make_chat(server.url("good").replace("http:", "https:")).invoke("Hi")


def test_the_text_before_a_fault_was_shown(server):
    shown = ""
    with pytest.raises(EndpointError):
        for chunk in make_chat(server.url("cut")).stream("Hi"):
            shown += chunk.text
    assert shown == "half an answ"


def test_values_out_of_range_never_reach_the_server(server):
    for values in ({"temperature": 3}, {"top_p": 0}, {"max_tokens": 0}, {"frequency_penalty": 1}):
        with pytest.raises(InvalidValue):
            make_chat(server.url("good")).invoke("Hi", **values)
    assert server.bodies == []


# --- keys --------------------------------------------------------------------------------------------------------------


def test_each_object_sends_its_own_key_and_a_server_without_one_gets_none_of_anybody(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-house")
    monkeypatch.setenv("FAR_KEY", "sk-from-the-environment")
    for key, fields in (("sk-anna", {}), ("sk-ben\n", {}), (None, {"api_key_env": "FAR_KEY"}), (None, {})):
        make_chat(server.url("good"), key=key, **fields).invoke("Hi")
    assert [headers["authorization"] for headers in server.headers] == [
        f"Bearer {key}" for key in ("sk-anna", "sk-ben", "sk-from-the-environment", "not-needed")
    ]


def test_a_missing_or_unreadable_key_says_what_to_do(server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ModelNotReady, match="OPENAI_API_KEY"):
        EndpointChat(entry=ModelEntry(id="gpt", provider="openai", model="gpt-4o-mini")).invoke("Hi")
    with pytest.raises(ModelNotReady) as caught:
        make_chat(server.url("good"), key="ｓｋ－全角").invoke("Hi")
    assert "全角" not in str(caught.value)
    assert server.bodies == []


def test_tokens_are_estimated_without_the_network():
    chat = make_chat("http://127.0.0.1:9/v1")
    assert chat.get_num_tokens("") == 0
    assert chat.get_num_tokens("four") == 1
    assert chat.get_num_tokens("有給休暇") == 4

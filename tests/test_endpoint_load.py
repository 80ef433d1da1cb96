"""Model servers under load: how many requests are in flight, whose turn is next, what is tried again and where, and what is counted."""

from __future__ import annotations

import json
import logging
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from llmops_kit import open_kit
from llmops_kit.errors import Busy, CatalogueError, EndpointError, InvalidValue
from llmops_kit.models.catalogue import ModelEntry, read_catalogue
from llmops_kit.models.endpoint_check import check_endpoint
from llmops_kit.models.endpoint_replicas import Replicas
from llmops_kit.models.endpoint_retry import draw_pause_s, read_wait_s
from llmops_kit.models.endpoints import Endpoints
from llmops_kit.settings import Settings
from tests.faulty_server import GOOD, KEY, FaultyServer

ANSWER = "こんにちは。"
LONG_S = 30.0  # nothing here takes this long unless it hangs


class LoadServer(ThreadingHTTPServer):
    """Answers after `delay_s` (or when `opened`, if `holds`), once its `refusals` (status, headers, code) are used up; can be killed and come back."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *, delay_s=0.0, holds=False, refusals=(), port=0):
        super().__init__(("127.0.0.1", port), LoadHandler)
        self.delay_s, self.holds, self.refusals = delay_s, holds, list(refusals)
        self.opened = threading.Event()
        self.lock = threading.Lock()
        self.asked, self.at, self.keys = [], [], []
        self.in_flight = self.peak = self.answered = 0
        self.connections = set()
        self.is_dead = False
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def kill(self):
        """As a killed process: nobody listens any more, and every connection is cut before it got a byte of its answer."""
        with self.lock:
            self.is_dead = True
            for connection in self.connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self.opened.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        pass


class LoadHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        body = json.dumps({"data": [{"id": "remote"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.close_connection = True
        with server.lock:
            server.connections.add(self.connection)
            server.asked.append(body["messages"][-1]["content"])
            server.at.append(time.monotonic())
            server.keys.append(self.headers["Authorization"])
            server.in_flight += 1
            server.peak = max(server.peak, server.in_flight)
            refusal = server.refusals.pop(0) if server.refusals else None
        server.opened.wait(LONG_S if server.holds else server.delay_s)
        with server.lock:
            server.in_flight -= 1
            server.connections.discard(self.connection)
            if not server.is_dead:
                server.answered += refusal is None  # before the client can know
                self.answer(refusal)

    def answer(self, refusal):
        status, headers, *code = refusal or (200, {"Content-Type": "text/event-stream"})
        fault = {"message": f"not now, {self.headers['Authorization']}", "code": code[0] if code else None}
        data = b"".join(GOOD) if refusal is None else json.dumps({"error": fault}).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers, "Connection": "close", "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def start():
    """Starts a server that ends with the test."""
    running = []

    def start_one(**how):
        running.append(LoadServer(**how))
        return running[-1]

    yield start_one
    for server in running:
        if not server.is_dead:
            server.kill()


def make_endpoints(tmp_path, **settings):
    return Endpoints(Settings(workspace=tmp_path, connect_timeout_s=1.0, request_timeout_s=20.0, **settings))


def make_entry(*addresses):
    return ModelEntry(id="far", provider="openai", model="remote", base_url=addresses[0], replicas=addresses[1:])


def wait_until(condition):
    deadline = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.005)


class Vacancy:
    """An address nobody listens at, kept from others until somebody moves in."""

    def __init__(self):
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"


@pytest.fixture
def vacate():
    """Makes vacancies."""
    made = []

    def make():
        made.append(Vacancy())
        return made[-1]

    yield make
    for vacancy in made:
        vacancy.socket.close()


# --- how many, and where -----------------------------------------------------------------------------------------------


def ask_all(endpoints, entry, count):
    """Each request through an object of its own, as in the app."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda number: endpoints.chat(entry, api_key=KEY, owner=f"p{number % 5}").invoke(f"{number}").text, range(count)))


def test_forty_requests_on_two_replicas_never_exceed_the_limit_and_are_spread(start, tmp_path):
    servers = start(delay_s=0.05), start(delay_s=0.05)
    endpoints, entry = make_endpoints(tmp_path, endpoint_concurrency=4), make_entry(*(server.url for server in servers))
    assert ask_all(endpoints, entry, 40) == [ANSWER] * 40
    assert sorted(int(text) for server in servers for text in server.asked) == list(range(40)), "each was sent once"
    assert all(1 < server.peak <= 4 and len(server.asked) >= 10 for server in servers)
    assert set(endpoints.replicas(entry).in_flight.values()) == {0}


def test_one_of_two_replicas_is_killed_and_all_forty_are_answered(start, tmp_path):
    servers = start(delay_s=0.05), start(delay_s=0.05)
    endpoints, entry = make_endpoints(tmp_path, endpoint_concurrency=4), make_entry(*(server.url for server in servers))

    def kill_one():
        wait_until(lambda: servers[0].answered >= 5 and servers[0].in_flight)
        servers[0].kill()

    killer = threading.Thread(target=kill_one)
    killer.start()
    assert ask_all(endpoints, entry, 40) == [ANSWER] * 40
    killer.join()
    assert servers[0].answered < 40 and servers[0].answered + servers[1].answered == 40
    assert max(server.peak for server in servers) <= 4
    assert set(endpoints.replicas(entry).in_flight.values()) == {0}


def test_a_replica_that_is_down_rests_and_is_asked_again_when_it_is_back(start, vacate, tmp_path, monkeypatch):
    monkeypatch.setattr("llmops_kit.models.endpoint_replicas._FIRST_REST_S", 0.3)
    dead, alive = vacate(), start()
    endpoints, entry = make_endpoints(tmp_path), make_entry(dead.url, alive.url)
    for _ in range(10):
        assert endpoints.chat(entry).invoke("Hi").text == ANSWER
    first = endpoints.replicas(entry)._all[0]
    assert 1 <= first.served <= 4, "it rests most of the time"
    dead.socket.close()
    back = start(port=dead.port)
    wait_until(lambda: endpoints.chat(entry).invoke("Hi").text == ANSWER and back.answered)
    assert first.setbacks == 0


def test_where_all_rest_the_one_that_rested_longest_is_tried_all_the_same(start, vacate, tmp_path, monkeypatch):
    monkeypatch.setattr("llmops_kit.models.endpoint_replicas._FIRST_REST_S", 1000.0)
    monkeypatch.setattr("llmops_kit.models.endpoint_replicas._LONGEST_REST_S", 1000.0)
    vacancies = {vacancy.url: vacancy for vacancy in (vacate(), vacate())}
    endpoints, entry = make_endpoints(tmp_path), make_entry(*vacancies)
    with pytest.raises(EndpointError, match=r"no server listens.*\(3 tries\)") as caught:
        endpoints.chat(entry).invoke("Hi")
    assert "3回試行" in caught.value.text("ja")
    longest = min(endpoints.replicas(entry)._all, key=lambda replica: replica.rests_since)
    vacancies[longest.address].socket.close()
    back = start(port=vacancies[longest.address].port)
    assert endpoints.chat(entry).invoke("Hi").text == ANSWER
    assert back.answered == 1 and longest.setbacks == 0


def test_a_replica_that_refuses_at_once_does_not_draw_everybody_to_it(start, tmp_path):
    sick, sound = start(refusals=[(503, {})] * 1000), start(delay_s=0.02)
    endpoints, entry = make_endpoints(tmp_path, endpoint_concurrency=4), make_entry(sick.url, sound.url)
    assert ask_all(endpoints, entry, 40) == [ANSWER] * 40
    assert len(sick.asked) <= 12


def test_an_answer_the_server_has_finished_gives_its_place_back_however_slowly_it_is_read(start, tmp_path):
    endpoints, entry = make_endpoints(tmp_path, endpoint_concurrency=1), make_entry(start().url)
    slow = endpoints.chat(entry).stream("Hi")
    assert next(slow).text == "こん"
    assert endpoints.chat(entry).invoke("Hi").text == ANSWER
    assert "".join(chunk.text for chunk in slow) == "にちは。"


# --- whose turn it is --------------------------------------------------------------------------------------------------


def test_many_requests_of_one_person_do_not_hold_back_the_single_one_of_another(start, tmp_path):
    server = start(holds=True)
    endpoints, entry = make_endpoints(tmp_path, endpoint_concurrency=1), make_entry(server.url)
    line = endpoints.replicas(entry)
    with ThreadPoolExecutor(32) as pool:
        asked = [pool.submit(endpoints.chat(entry, owner="anna").invoke, f"anna {number}") for number in range(31)]
        wait_until(lambda: line.waiting == 30 and server.asked)
        asked.append(pool.submit(endpoints.chat(entry, owner="ben").invoke, "ben"))
        wait_until(lambda: line.waiting == 31)
        server.opened.set()
        assert [answer.result(LONG_S).text for answer in asked] == [ANSWER] * 32
    assert server.asked[1] == "ben"
    assert server.peak == 1


def test_a_person_who_leaves_the_line_frees_their_place_and_the_server_never_hears_of_them(start, tmp_path):
    server = start(holds=True)
    endpoints, entry = make_endpoints(tmp_path, endpoint_concurrency=1), make_entry(server.url)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(endpoints.chat(entry).invoke, "first")
        wait_until(lambda: server.asked)
        leaving = endpoints.chat(entry).stream("leaving")
        assert next(leaving).text == ""  # waits, and says so
        assert endpoints.replicas(entry).waiting == 1
        leaving.close()
        assert endpoints.replicas(entry).waiting == 0
        last = pool.submit(endpoints.chat(entry).invoke, "last")
        server.opened.set()
        assert first.result(LONG_S).text == last.result(LONG_S).text == ANSWER
    assert server.asked == ["first", "last"]
    assert set(endpoints.replicas(entry).in_flight.values()) == {0}


def test_who_waits_too_long_is_told_the_numbers_in_both_languages(start, tmp_path):
    server = start(holds=True)
    endpoints, entry = make_endpoints(tmp_path, endpoint_concurrency=2, endpoint_wait_s=0.3), make_entry(server.url)
    with ThreadPoolExecutor(2) as pool:
        held = [pool.submit(endpoints.chat(entry).invoke, "held") for _ in range(2)]
        wait_until(lambda: len(server.asked) == 2)
        with pytest.raises(Busy) as caught:
            endpoints.chat(entry, api_key=KEY).invoke("late")
        server.opened.set()
        assert [answer.result(LONG_S).text for answer in held] == [ANSWER] * 2
    english, japanese = caught.value.text("en"), caught.value.text("ja")
    assert "“far”" in english and "2 of at most 2" in english and "1 are waiting" in english and "0.3 s" in english
    assert "「far」" in japanese and "2件（上限2件）" in japanese and "1件" in japanese and "0.3秒" in japanese
    assert server.asked == ["held", "held"] and KEY not in str(caught.value)


def test_places_are_neither_lost_nor_doubled_whatever_becomes_of_those_who_wait(monkeypatch):
    monkeypatch.setattr("llmops_kit.models.endpoint_replicas.PULSE_S", 0.01)
    line = Replicas("far", ["http://a", "http://b"], limit=3)
    most, left = [], []

    def visit(number):
        dice = random.Random(number)
        waiting = line.wait(f"p{number % 7}")
        while True:
            try:
                next(waiting)
            except StopIteration as end:
                most.append(max(line.in_flight.values()))
                time.sleep(dice.random() / 20)
                end.value.free(down=dice.random() < 0.2)
                end.value.free()
                return
            if dice.random() < 0.3:
                waiting.close()
                left.append(number)
                return

    with ThreadPoolExecutor(60) as pool:
        list(pool.map(visit, range(300)))
    assert max(most) <= 3 and left and most
    assert (line.waiting, set(line.in_flight.values())) == (0, {0})


# --- what is tried again -----------------------------------------------------------------------------------------------


def test_two_passing_faults_then_an_answer_that_is_counted(start, tmp_path):
    server = start(refusals=[(503, {}), (503, {})])
    with open_kit(tmp_path) as kit:
        kit.models.add("far", provider="openai", base_url=server.url, model="remote", price_in_per_mtok=1.0, price_out_per_mtok=2.0)
        run = kit.playground.run([{"role": "user", "content": "Hi"}], model="far", api_key=KEY, participant="anna")
        assert (run.output, run.input_tokens, run.output_tokens, run.error, run.flags) == (ANSWER, 7, 3, None, ())
        assert run.cost == pytest.approx(13e-6) and kit.playground.get(run.id) == run
    assert len(server.asked) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_is_not_tried_again(start, tmp_path, status):
    server = start(refusals=[(status, {})])
    with pytest.raises(EndpointError) as caught:
        make_endpoints(tmp_path).chat(make_entry(server.url), api_key=KEY).invoke("Hi")
    assert len(server.asked) == 1 and "tries" not in str(caught.value)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_passing_fault_is_tried_as_often_as_set_and_never_shows_the_key(start, tmp_path, caplog, status):
    caplog.set_level(logging.DEBUG)
    server = start(refusals=[(status, {})] * 9)
    with pytest.raises(EndpointError, match=rf"status {status}\).*\(4 tries\)") as caught:
        make_endpoints(tmp_path, endpoint_retries=3).chat(make_entry(server.url), api_key=KEY).invoke("Hi")
    assert server.keys == [f"Bearer {KEY}"] * 4
    assert KEY not in caplog.text + str(caught.value) + repr(caught.value.facts) + repr(caught.value.__context__)


@pytest.mark.parametrize("refusal", [(503, {"X-Should-Retry": "false"}), (429, {}, "insufficient_quota")])
def test_a_server_that_says_so_or_an_empty_purse_is_not_asked_again(start, tmp_path, refusal):
    server = start(refusals=[refusal])
    with pytest.raises(EndpointError):
        make_endpoints(tmp_path).chat(make_entry(server.url)).invoke("Hi")
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(start, tmp_path, status):
    server = start(refusals=[(status, {"Retry-After": "1"})])
    assert make_endpoints(tmp_path).chat(make_entry(server.url)).invoke("Hi").text == ANSWER
    assert server.at[1] - server.at[0] >= 1.0


def test_a_server_that_wants_to_be_left_alone_for_long_is_not_waited_for_but_another_is_asked(start, tmp_path):
    server = start(refusals=[(429, {"Retry-After": "90"})] * 2)
    with pytest.raises(EndpointError, match="come back in 90 s"):
        make_endpoints(tmp_path).chat(make_entry(server.url)).invoke("Hi")
    assert len(server.asked) == 1
    other = start()
    assert make_endpoints(tmp_path).chat(make_entry(server.url, other.url)).invoke("Hi").text == ANSWER
    assert (len(server.asked), len(other.asked)) == (2, 1)


def test_closing_an_answer_ends_the_wait_for_the_next_try(start, tmp_path):
    server = start(refusals=[(503, {"Retry-After": "15"})])
    endpoints, entry = make_endpoints(tmp_path), make_entry(server.url)
    began = time.monotonic()
    waiting = endpoints.chat(entry).stream("Hi")
    assert next(waiting).text == ""
    waiting.close()
    assert time.monotonic() - began < 10
    assert (len(server.asked), endpoints.replicas(entry).in_flight[server.url]) == (1, 0)


def test_nothing_is_tried_again_after_its_first_token(tmp_path):
    server = FaultyServer()
    try:
        for fault in ("cut", "cut_in_chunk"):
            with pytest.raises(EndpointError, match="broke off"):
                make_endpoints(tmp_path).chat(make_entry(server.url(fault))).invoke("Hi")
        assert len(server.bodies) == 2
    finally:
        server.stop()


def test_waits_are_drawn_from_a_window_that_doubles():
    drawn = {tries: [draw_pause_s(tries) for _ in range(300)] for tries in (1, 2, 3, 9)}
    for tries, most in ((1, 0.5), (2, 1.0), (3, 2.0), (9, 8.0)):
        assert 0 <= min(drawn[tries]) < most / 4 and most * 3 / 4 < max(drawn[tries]) <= most
    assert [read_wait_s({"retry-after": said}) for said in ("2", "0.5", "-1", "soon", "nan", "inf", "")] == [2, 0.5, 0, 0, 0, 0, 0]
    assert 50 < read_wait_s({"retry-after": format_datetime(datetime.now(UTC) + timedelta(minutes=1), usegmt=True)}) <= 60
    assert read_wait_s({}) == 0


# --- how long anything may take ----------------------------------------------------------------------------------------


def test_every_phase_of_a_request_has_the_limits_that_were_set(start, tmp_path):
    chat = make_endpoints(tmp_path).chat(make_entry(start().url))
    limits = []
    chat._wire.client.event_hooks["request"].append(lambda request: limits.append(request.extensions["timeout"]))
    chat.invoke("Hi")
    assert limits == [{"connect": 1.0, "read": 20.0, "write": 20.0, "pool": 20.0}]


@pytest.mark.parametrize("fault", ["stall", "stall_after_one", "drip_headers", "drip_body", "keepalives"])
def test_a_silent_server_is_given_up_in_time_and_not_asked_twice(tmp_path, fault):
    server = FaultyServer()
    try:
        endpoints = Endpoints(Settings(workspace=tmp_path, connect_timeout_s=0.2, request_timeout_s=0.5))
        began = time.monotonic()
        with pytest.raises(EndpointError, match=r"silent for 0\.5 s"):
            endpoints.chat(make_entry(server.url(fault))).invoke("Hi")
        assert time.monotonic() - began < 10
        assert len(server.bodies) == 1
    finally:
        server.stop()


def test_closing_an_answer_hangs_up_on_a_server_that_sent_not_even_headers(start, tmp_path):
    server = start(holds=True)
    endpoints, entry = make_endpoints(tmp_path), make_entry(server.url)
    waiting = endpoints.chat(entry).stream("Hi")
    assert next(waiting).text == "" and len(server.asked) == 1
    (connection,) = server.connections
    waiting.close()
    connection.settimeout(LONG_S)
    assert connection.recv(1) == b"", "the client hung up"
    assert endpoints.replicas(entry).in_flight[server.url] == 0


# --- what is counted ---------------------------------------------------------------------------------------------------


def test_where_the_server_counts_nothing_the_run_says_that_its_number_is_an_estimate(tmp_path):
    server = FaultyServer()
    try:
        with open_kit(tmp_path) as kit:
            kit.models.add("far", provider="openai", base_url=server.url("no_usage"), model="remote", price_in_per_mtok=1.0, price_out_per_mtok=2.0)
            run = kit.playground.run([{"role": "user", "content": "Hi"}], model="far")
            assert (run.output, run.input_tokens, run.output_tokens, run.cost, run.flags) == ("a", None, 1, None, ("tokens_estimated",))
            assert "? → ~1 tokens" in run.facts() and kit.playground.get(run.id) == run
    finally:
        server.stop()


# --- the entry ---------------------------------------------------------------------------------------------------------


def test_replicas_are_read_from_the_list_of_models_and_written_to_it(tmp_path, start):
    one, two = start(), start()
    with open_kit(tmp_path) as kit:
        entry = kit.models.add("far", provider="openai", base_url=one.url, replicas=[two.url + "/"], model="remote")
        assert entry.addresses == (one.url, two.url)
        chats = [kit.models.chat("far", owner="anna") for _ in range(2)]
        assert chats[0]._replicas is chats[1]._replicas, "all share one line"
        assert "anna" not in repr(chats[0]) + str(chats[0]._identifying_params)
    with open_kit(tmp_path) as kit:
        assert kit.models.get("far") == entry
    (tmp_path / "models.yaml").write_text("- {id: a, provider: openai, model: m, base_url: http://h, replicas: [http://i, https://j/v1]}", encoding="utf-8")
    assert read_catalogue(tmp_path / "models.yaml")[0].addresses == ("http://h", "http://i", "https://j/v1")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("base_url: http://h, replicas: [ftp://i]", "replicas.0 is “ftp://i”"),
        ("base_url: http://h, replicas: [http://i, 'http://me:pw@j']", "replicas.1 is “…”"),
        ("base_url: http://h, replicas: [http://i, http://I/]", "each address once"),
        ("base_url: http://h, replicas: [http://h/]", "base_url included"),
        ("replicas: [http://i]", "that has a base_url"),
        ("base_url: http://h, replicas: http://i", "replicas"),
    ],
)
def test_replicas_that_do_not_serve_are_named(tmp_path, fields, said):
    file = tmp_path / "models.yaml"
    file.write_text(f"- {{id: a, provider: openai, model: m, {fields}}}", encoding="utf-8")
    with pytest.raises(CatalogueError) as caught:
        read_catalogue(file)
    assert said in caught.value.text("en") and "使える値：" in caught.value.text("ja") and "pw" not in str(caught.value)


def test_adding_replicas_that_do_not_serve_writes_nothing(tmp_path):
    with open_kit(tmp_path) as kit:
        with pytest.raises(InvalidValue, match=r"replicas\.0"):
            kit.models.add("far", provider="openai", base_url="http://h", replicas=["h:8000"])
        assert not (tmp_path / "models.yaml").exists()


def test_the_check_asks_every_replica_and_names_those_that_fail(tmp_path, start, vacate):
    settings = Settings(workspace=tmp_path, connect_timeout_s=1.0, request_timeout_s=2.0)
    one, two, dead = start(), start(), vacate().url
    assert check_endpoint(make_entry(one.url, two.url), settings, None).passed
    found = check_endpoint(make_entry(one.url, dead, two.url), settings, KEY)
    assert not found.passed and found.facts == {one.url: "✓", dead: "✗", two.url: "✓"}
    for language in ("en", "ja"):
        assert f"{dead}/models" in found.text(language) and one.url not in found.text(language)
    assert "1 of 3 servers" in found.text("en") and "3台中1台" in found.text("ja") and KEY not in found._repr_markdown_()


def test_the_check_does_not_wait_for_ever_for_a_server_that_drips(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as dripping:
        done = threading.Event()

        def drip():
            connection, _ = dripping.accept()
            with connection, suppress(OSError):
                while not done.wait(0.05):
                    connection.sendall(b"H")

        threading.Thread(target=drip, daemon=True).start()
        began = time.monotonic()
        settings = Settings(workspace=tmp_path, connect_timeout_s=0.3, request_timeout_s=0.5)
        assert not check_endpoint(make_entry(f"http://127.0.0.1:{dripping.getsockname()[1]}/v1"), settings, None).passed
        assert time.monotonic() - began < 10
        done.set()

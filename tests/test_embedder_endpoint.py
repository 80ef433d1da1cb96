"""Embedders behind an address: what is sent, how answers are read, and every fault of a server in both languages."""

from __future__ import annotations

import base64
import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from llmops_kit.errors import EndpointError, ModelNotReady
from llmops_kit.models import Models
from llmops_kit.models.embedder_endpoint import MOST_CHARACTERS, MOST_TEXTS
from llmops_kit.settings import Settings
from tests.faulty_server import KEY

DIMENSIONS = 8
LIMIT_S = 1.0


def embed(text, dimensions=DIMENSIONS):
    """A vector that only this text has, of any length."""
    seed = np.frombuffer(text.encode().ljust(4, b"\0"), np.uint8).astype(np.uint32)
    return np.random.default_rng(seed).normal(size=dimensions).astype(np.float32) * 3


def unit(rows):
    rows = np.atleast_2d(np.asarray(rows, np.float32))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class EmbeddingServer(ThreadingHTTPServer):
    """An embeddings server; the first part of the path says how it misbehaves. It keeps what it was sent."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies, self.keys, self.released = [], [], threading.Event()
        self.at_once, self.most_at_once, self.lock = 0, 0, threading.Lock()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def url(self, fault="good"):
        return f"http://127.0.0.1:{self.server_port}/{fault}/v1"

    def stop(self):
        self.released.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.answer(200, {"data": [{"id": "remote"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.bodies.append(body)
            server.keys.append(self.headers["Authorization"])
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        _, fault, *rest = self.path.split("/")
        assert rest == ["v1", "embeddings"]
        try:
            getattr(self, "do_" + fault)(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with server.lock:
                server.at_once -= 1

    def answer(self, status, content, **headers):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def vectors(self, body):
        rows = [embed(text, body.get("dimensions", DIMENSIONS)).tolist() for text in body["input"]]
        return [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]

    def say(self, items):
        self.answer(200, {"object": "list", "model": "remote", "data": items, "usage": {"prompt_tokens": 1, "total_tokens": 1}})

    def do_good(self, body):
        self.say(self.vectors(body))

    def do_shuffled(self, body):
        self.say(self.vectors(body)[::-1])

    def do_unnumbered(self, body):
        self.say([{"embedding": item["embedding"]} for item in self.vectors(body)])

    def do_base64(self, body):
        items = self.vectors(body)
        self.say([{**item, "embedding": base64.b64encode(np.array(item["embedding"], "<f4").tobytes()).decode()} for item in items])

    def do_slow(self, body):
        self.server.released.wait(0.05)
        self.do_good(body)

    def do_once_503(self, body):
        if len(self.server.bodies) == 1:
            self.answer(503, {"error": {"message": "warming up"}}, Retry_After="0.1")
        else:
            self.do_good(body)

    def do_short(self, body):
        self.say(self.vectors(body)[:-1])

    def do_fifth_short(self, body):
        (self.do_short if len(self.server.bodies) >= 5 else self.do_good)(body)

    def do_twice(self, body):
        self.say([{**item, "index": 0} for item in self.vectors(body)])

    def do_longer(self, body):
        self.say([{**item, "embedding": [*item["embedding"], 1.0]} for item in self.vectors(body)])

    def do_uneven(self, body):
        items = self.vectors(body)
        items[-1]["embedding"].append(1.0)
        self.say(items)

    def do_nan(self, body):
        items = self.vectors(body)
        items[-1]["embedding"][2] = float("nan")
        self.say(items)

    def do_null(self, body):
        items = self.vectors(body)
        items[-1]["embedding"][2] = None
        self.say(items)

    def do_nested(self, body):
        self.say([{**item, "embedding": [item["embedding"]]} for item in self.vectors(body)])

    def do_words(self, body):
        self.say([{**item, "embedding": "no base64!"} for item in self.vectors(body)])

    def do_nothing(self, body):
        self.say([])

    def do_wrong_shape(self, body):
        self.answer(200, {"vectors": []})

    def do_broken_json(self, body):
        self.answer(200, b'{"data": [{"index": 0, "embed')

    def do_cut(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.wfile.write(b'{"data": [')
        self.close_connection = True

    def do_401(self, body):
        self.answer(401, {"error": {"message": f"wrong key {self.headers['Authorization']}"}})

    def do_404(self, body):
        self.answer(404, {"error": {"message": "no such model"}})

    def do_429_later(self, body):
        self.answer(429, {"error": {"message": "slow down"}}, Retry_After="40")

    def do_500(self, body):
        self.answer(500, {"error": {"message": "kernel panic"}})

    def do_stall(self, body):
        self.server.released.wait(30)
        self.close_connection = True


@pytest.fixture
def server():
    running = EmbeddingServer()
    yield running
    running.stop()


@pytest.fixture
def models(workspace):
    return Models(Settings(workspace=workspace, connect_timeout_s=0.5, request_timeout_s=LIMIT_S, endpoint_retries=1, endpoint_concurrency=3))


def open_embedder(models, url, *, key=KEY, **fields):
    models.add("far", provider="openai", model="remote", kind="embedding", base_url=url, **fields)
    return models.embedder("far", api_key=key)


def test_vectors_come_in_order_at_length_one_behind_their_prefixes(models, server):
    embedder = open_embedder(models, server.url(), query_prefix="query: ", document_prefix="passage: ", languages=["ja", "en"])
    texts = ["休暇の申請", "Paid leave", "経費"]
    vectors = embedder.encode(texts)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, unit([embed(f"passage: {text}") for text in texts]), atol=1e-6)
    np.testing.assert_allclose(embedder.encode_query("休暇"), unit(embed("query: 休暇"))[0], atol=1e-6)
    assert embedder.encode_queries(texts).shape == (3, DIMENSIONS) and embedder.embed_query("休暇") == embedder.encode_query("休暇").tolist()
    assert server.bodies[0] == {"model": "remote", "input": [f"passage: {text}" for text in texts], "encoding_format": "float"}
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert (embedder.id, embedder.dimensions, embedder.languages) == ("far", DIMENSIONS, ("ja", "en"))
    assert embedder.revision.startswith("remote@8+")


@pytest.mark.parametrize("manner", ["shuffled", "unnumbered", "base64"])
def test_other_manners_of_answering_are_understood(models, server, manner):
    texts = [f"text {number}" for number in range(5)]
    np.testing.assert_allclose(open_embedder(models, server.url(manner)).encode(texts), unit([embed(text) for text in texts]), atol=1e-6)


def test_blank_texts_and_halves_of_characters_are_not_sent(models, server):
    embedder = open_embedder(models, server.url())
    vectors = embedder.encode(["", "a", " \n", "半分\ud800"])
    assert server.bodies[0]["input"] == ["a", "半分?"] and not vectors[[0, 2]].any() and vectors[[1, 3]].any(axis=1).all()
    assert not embedder.encode([" "]).any() and embedder.encode([]).shape == (0, DIMENSIONS)
    assert len(server.bodies) == 1


def test_dimensions_are_asked_for_where_the_entry_says_so(models, server):
    embedder = open_embedder(models, server.url(), dimensions=4, request_dimensions=True)
    assert embedder.dimensions == 4 and not server.bodies
    assert embedder.encode(["a"]).shape == (1, 4) and server.bodies[0]["dimensions"] == 4
    models.add("unasked", provider="openai", model="remote", kind="embedding", base_url=server.url())
    unasked = models.embedder("unasked")
    assert unasked.dimensions == DIMENSIONS and "dimensions" not in server.bodies[-1]
    assert models.embedder("unasked") is unasked and unasked.revision == "remote@8" and len(server.bodies) == 2, "asked once"


def test_many_texts_go_in_bounded_requests_few_at_a_time(models, server):
    texts = [f"{number} " + "x" * (2000 if number % 50 == 0 else 5) for number in range(1500)]
    texts[700] = "y" * (MOST_CHARACTERS + 1)
    embedder = open_embedder(models, server.url("slow"))
    np.testing.assert_allclose(embedder.encode(texts), unit([embed(text) for text in texts]), atol=1e-6)
    sent = [body["input"] for body in server.bodies]
    assert Counter(text for request in sent for text in request) == Counter(texts)
    assert all(len(request) <= MOST_TEXTS and (sum(map(len, request)) <= MOST_CHARACTERS or len(request) == 1) for request in sent)
    assert 2 <= server.most_at_once <= 3, "as many as endpoint_concurrency"


def test_batch_size_is_the_entrys_and_threads_share_one(models, server):
    models.add("far", provider="openai", model="remote", kind="embedding", base_url=server.url(), batch_size=2)
    with ThreadPoolExecutor(6) as pool:
        for vectors in pool.map(lambda number: models.embedder("far").encode([f"{number} {part}" for part in range(5)]), range(6)):
            assert vectors.shape == (5, DIMENSIONS)
    assert max(len(body["input"]) for body in server.bodies) == 2


def test_an_answer_of_several_megabytes_is_read(models, server):
    embedder = open_embedder(models, server.url(), dimensions=3072, request_dimensions=True)
    texts = [str(number) for number in range(100)]
    np.testing.assert_allclose(embedder.encode(texts), unit([embed(text, 3072) for text in texts]), atol=1e-6)


def test_a_passing_fault_is_tried_again(models, server):
    assert open_embedder(models, server.url("once_503")).encode(["a"]).shape == (1, DIMENSIONS)
    assert len(server.bodies) == 2


@pytest.mark.parametrize(
    ("fault", "en", "ja", "requests"),
    [
        ("short", "1 vectors for 2 texts", "2件の文章に対して1件", 1),
        ("twice", "2 vectors for 2 texts", "2件の文章に対して2件", 1),
        ("nothing", "0 vectors for 2 texts", "2件の文章に対して0件", 1),
        ("longer", "9 dimensions instead of 8", "8次元ではなく9次元", 1),
        ("uneven", "different lengths", "長さが揃っていません", 1),
        ("nan", "NaN", "NaN", 1),
        ("null", "NaN", "NaN", 1),
        ("nested", "nothing that can be read as vectors", "ベクトルとして読めるデータ", 1),
        ("words", "nothing that can be read as vectors", "ベクトルとして読めるデータ", 1),
        ("wrong_shape", "nothing that can be read as vectors", "ベクトルとして読めるデータ", 1),
        ("broken_json", "nothing that can be read as vectors", "ベクトルとして読めるデータ", 1),
        ("cut", "broke off", "途中で接続が切れました", 2),
        ("401", "refuses the key", "キーが拒否", 1),
        ("404", "knows no model “remote”", "モデル「remote」がありません", 1),
        ("429_later", "40 s", "40秒後", 1),
        ("500", "kernel panic", "kernel panic", 2),
        ("stall", "silent", "応答がありません", 1),
    ],
)
def test_every_fault_of_a_server_is_told_in_both_languages(models, server, fault, en, ja, requests):
    embedder = open_embedder(models, server.url(fault), dimensions=DIMENSIONS)
    with pytest.raises(EndpointError) as caught:
        embedder.encode(["a", "b"])
    error: BaseException | None = caught.value
    assert en in caught.value.text("en") and ja in caught.value.text("ja") and "far" in caught.value.text("ja")
    assert len(server.bodies) == requests
    while error is not None:
        assert KEY not in str(error)
        error = error.__cause__ or error.__context__
    assert not models.check("far", api_key=KEY).passed


def test_a_fault_in_the_middle_ends_the_call_and_sends_no_more(models, server):
    embedder = open_embedder(models, server.url("fifth_short"), batch_size=1)
    with pytest.raises(EndpointError, match="0 vectors for 1 texts"):
        embedder.encode([str(number) for number in range(100)])
    assert 5 <= len(server.bodies) < 20


def test_nobody_listens(models):
    embedder = open_embedder(models, "http://127.0.0.1:9/v1", dimensions=DIMENSIONS)
    with pytest.raises(EndpointError, match=r"no server listens at 127\.0\.0\.1:9"):
        embedder.encode_query("a")


def test_a_key_that_is_missing_is_named_and_another_persons_is_never_sent(models, server, monkeypatch):
    models.add("keyed", provider="openai", model="remote", kind="embedding", base_url=server.url(), api_key_env="OUR_EMBEDDING_KEY", dimensions=DIMENSIONS)
    mine = models.embedder("keyed", api_key=KEY)
    mine.encode_query("a")
    with pytest.raises(ModelNotReady, match="OUR_EMBEDDING_KEY"):
        models.embedder("keyed").encode_query("a")
    assert models.state("keyed").status == "needs_key" and KEY not in repr(mine)
    monkeypatch.setenv("OUR_EMBEDDING_KEY", "sk-of-the-house")
    models.embedder("keyed").encode_query("a")
    assert server.keys == [f"Bearer {KEY}", "Bearer sk-of-the-house"]


def test_a_second_server_answers_where_the_first_is_down(models, server):
    embedder = open_embedder(models, "http://127.0.0.1:9/v1", replicas=[server.url()])
    assert embedder.encode(["a"]).shape == (1, DIMENSIONS)

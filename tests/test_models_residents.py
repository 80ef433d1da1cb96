"""Models in memory: adapters share their base, idle models make room, and how far a load is can be read."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from llmops_kit.errors import InvalidValue, ModelNotReady, ModelRefused
from llmops_kit.models import Models
from llmops_kit.models.loading import load_model
from llmops_kit.settings import Settings
from llmops_kit.types import Message
from tests.test_engine import make_adapter
from tests.tiny_model import build_tiny_model, load_test_model

QUESTION = "こんにちは。自己紹介をしてください。"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(load_test_model("tiny", tmp_path_factory.mktemp("base")), tmp_path_factory.mktemp("adapter"), 3)


def add_tiny(models: Models, id: str, folder: Path) -> None:
    models.add(id, provider="huggingface", model=str(folder), context_tokens=512, dtype="float32", default_params={"temperature": 0, "max_tokens": 12})


def test_an_adapter_is_a_model_that_shares_the_weights_of_its_base(settings: Settings, tiny: Path, adapter: Path) -> None:
    models = Models(settings)
    add_tiny(models, "tiny", tiny)
    models.add("styled", base="tiny", adapter=str(adapter))
    assert Models(settings).get("styled").adapter == str(adapter), "it is kept in models.yaml"
    bare, styled = models.chat("tiny").invoke(QUESTION).content, models.chat("styled").invoke(QUESTION).content
    assert bare != styled
    base, second = sorted(models.loaded(), key=lambda info: -info.memory_mb)
    assert (base.id, second.id, second.memory_mb) == ("tiny", "styled", 0)
    answers: dict[str, set[object]] = {"tiny": set(), "styled": set()}
    threads = [threading.Thread(target=lambda id=id: answers[id].add(models.chat(id).invoke(QUESTION).content)) for id in ("tiny", "styled") * 6]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == {"tiny": {bare}, "styled": {styled}}, "in one batch each has its own"
    writing = models.chat("styled").stream(QUESTION, max_tokens=300, temperature=1.5)
    next(writing)
    assert models.unload("styled") and models.chat("styled").invoke(QUESTION).content == styled, "loaded anew while the old one is still answering"
    writing.close()
    time.sleep(0.3)
    assert models.chat("styled").invoke(QUESTION).content == styled, "the old one's leaving takes nothing of the new one away"
    assert models.unload("styled") and models.chat("tiny").invoke(QUESTION).content == bare
    assert models.chat("styled").invoke(QUESTION).content == styled


def test_an_adapter_that_lacks_a_file_or_stands_before_a_server_is_refused(settings: Settings, tiny: Path, adapter: Path, tmp_path: Path) -> None:
    models = Models(settings)
    add_tiny(models, "tiny", tiny)
    models.add("empty", base="tiny", adapter=str(tmp_path))
    assert models.state("empty").status == "refused" and "adapter_config.json" in models.state("empty").text("ja")
    with pytest.raises(ModelNotReady):
        models.chat("empty")
    with pytest.raises(InvalidValue, match="server"):
        models.add("remote", provider="openai", base_url="http://127.0.0.1:1/v1", adapter=str(adapter))
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in adapter.iterdir():
        (broken / file.name).write_bytes(file.read_bytes()[:200])
    models.add("broken", base="tiny", adapter=str(broken))
    with pytest.raises(ModelRefused, match="broken"):
        models.chat("broken")
    assert models.chat("tiny").invoke("Hi").content is not None


def test_the_idlest_model_makes_room_and_a_busy_one_stays(workspace: Path, tmp_path: Path) -> None:
    models = Models(Settings(workspace=workspace, local_memory_gb=0.5))
    for id in ("first", "second"):
        folder = build_tiny_model(tmp_path / id, context_tokens=4096, layers=8)
        models.add(id, provider="huggingface", model=str(folder), context_tokens=4096, dtype="float32", min_memory_gb=0.5)
    models.chat("first").invoke("Hi", max_tokens=2)
    models.chat("second").invoke("Hi", max_tokens=2)
    assert [info.id for info in models.loaded()] == ["second"], "the idle one left"
    busy = models.chat("second").stream("Hi", max_tokens=3000, temperature=0)
    next(busy)
    with pytest.raises(ModelNotReady, match=r"0\.5"):
        models.chat("first")
    busy.close()


def test_models_that_are_loaded_at_the_same_time_are_both_whole(settings: Settings, tmp_path: Path) -> None:
    models = Models(settings)
    ids = [f"tiny-{number}" for number in range(6)]
    for number, id in enumerate(ids):
        add_tiny(models, id, build_tiny_model(tmp_path / id, layers=6, seed=number))
    answers: dict[str, object] = {}
    threads = [threading.Thread(target=lambda id=id: answers.update({id: models.chat(id).invoke("Hi").content})) for id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(answers) == ids


def test_loading_tells_how_far_it_is(tiny: Path, settings: Settings) -> None:
    models = Models(settings)
    add_tiny(models, "tiny", tiny)
    shares: list[float] = []
    load_model(models.get("tiny"), tiny, settings, progress=shares.append)
    assert len(shares) > 5 and shares == sorted(shares) and shares[0] < 0.2 and 0.9 <= shares[-1] <= 1
    assert "45%" in type(models.state("tiny"))("loading", share=0.45).text("ja")


def test_scores_places_and_loads_are_read_from_the_models(settings: Settings, tiny: Path) -> None:
    models = Models(settings)
    add_tiny(models, "tiny", tiny)
    plain, rendered = models.score("tiny", [("空は", "青い"), ((Message("user", "空は？"),), "青い")])
    assert len(plain.token_logprobs) == len(rendered.token_logprobs) > 1 and plain.logprob < 0
    assert models.queue_place("tiny", "nobody") is None
    load = models.loads()["tiny"]
    assert (load.running, load.waiting, load.slots) == (0, 0, settings.local_slots)
    with pytest.raises(InvalidValue, match="starter-reader"):
        models.score("starter-reader", [("a", "b")])

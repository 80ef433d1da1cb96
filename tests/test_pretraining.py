"""Training from scratch: what is read, that it learns more than counting, and that an interrupted run ends as an uninterrupted one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from llmops_kit.errors import InvalidValue, NotSaved, UnreadableFile
from llmops_kit.kit import Kit, open_kit
from llmops_kit.tuning.pretraining import PretrainSpec, train_model
from llmops_kit.tuning.pretraining.checkpoints import FOLDER, find_checkpoint
from llmops_kit.tuning.pretraining.corpus import CORPUS_FILE, Corpus, Text, read_corpus, read_frozen_corpus
from llmops_kit.tuning.pretraining.packing import Packed
from llmops_kit.tuning.pretraining.planning import plan_pretraining, resolve
from llmops_kit.types import Job, Message, now

WHO = ("犬", "ねこ", "先生", "The dog", "My friend")
WHAT = ("走ります", "歌います", "待っています", "runs", "waits")
WHERE = ("庭", "学校", "駅前", "the park", "the shop")


@dataclass
class FakeWork:
    """A job as its process sees it; it asks to stop after `stop_after` steps."""

    job: Job
    folder: Path
    stop_after: int = 10**9
    resumed: bool = False
    events: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)
    asked: int = 0

    def event(self, kind: str, step: int, **data: Any) -> None:
        json.dumps(data)
        self.events.append((kind, step, data))

    def note(self, en: str, ja: str, step: int = 0) -> None:
        self.event("note", step, en=en, ja=ja)

    def progress(self, *_: Any, **__: Any) -> None:
        return None

    def is_cancelled(self) -> bool:
        self.asked += 1
        return self.asked > self.stop_after

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [{"step": step, **data} for name, step, data in self.events if name == kind]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Two files of sentences with an order to be learnt."""
    folder, rng = tmp_path / "texts", Random(3)
    (folder / "more").mkdir(parents=True)
    for file, count in ((folder / "a.txt", 160), (folder / "more" / "b.md", 120)):
        lines = [f"{rng.choice(WHO)}は{rng.choice(WHERE)}で{rng.choice(WHAT)}。" for _ in range(count)]
        file.write_text("\n\n".join("".join(lines[start : start + 8]) for start in range(0, count, 8)), encoding="utf-8")
    return folder


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with open_kit(tmp_path / "workspace") as opened:
        yield opened


def make_work(kit: Kit, texts: Path, id: str, **fields: Any) -> FakeWork:
    given = {"steps": 40, "batch_tokens": 256, "max_tokens": 64, "vocabulary": 700, "eval_every": 20, "threads": 1, "name": id, **fields}
    plan = plan_pretraining(PretrainSpec(folder=texts, **given), kit.settings)
    work = FakeWork(Job(id, now(), "local", "pretrain", id, plan.spec.model_dump(mode="json")), kit.settings.jobs_folder / id)
    plan.corpus.freeze(work.folder)
    return work


def test_a_tiny_model_learns_more_than_counting_and_is_a_model_at_once(kit: Kit, texts: Path) -> None:
    work = make_work(kit, texts, "my-lm")
    result = train_model(kit.tuning, work)
    losses = [row["eval_loss"] for row in work.of("eval")]
    assert [row["step"] for row in work.of("eval")] == [0, 20, 40]
    assert losses[0] > losses[1] > losses[2] and result["eval_loss"] < 0.7 * result["unigram_loss"] < result["eval_loss_before"]
    assert result["steps"] == 40 and result["tokens"] > 5000 and result["model"] == "my-lm"
    samples = work.of("sample")
    assert {row["step"] for row in samples} == {0, 20, 40} and all(row["base"] is not None and row["prompt"] for row in samples)
    assert [row["step"] for row in work.of("checkpoint")] == [20]
    folder = Path(result["adapter_path"])
    assert {"model.safetensors", "tokenizer.json", "card.json", "SHA256SUMS"} <= {file.name for file in folder.iterdir()}
    assert kit.models.state("my-lm").is_ready and kit.models.check("my-lm").passed
    answer = kit.models.chat("my-lm").invoke("犬は庭で", max_tokens=8, temperature=0.0).content
    assert isinstance(answer, str) and answer
    card = kit.tuning.card("my-lm")
    assert card.job_id == "my-lm" and card.metrics["unigram_loss"] == result["unigram_loss"] and card.data_sha256
    assert train_model(kit.tuning, make_again(work))["model"] == "my-lm"


def make_again(work: FakeWork) -> FakeWork:
    """The same job, whose process was killed after it had published."""
    return FakeWork(work.job, work.folder, resumed=True)


def test_a_name_that_another_took_meanwhile_costs_nobody_a_training(kit: Kit, texts: Path) -> None:
    works = [make_work(kit, texts, id, name="same", steps=2) for id in ("one", "two")]
    assert [train_model(kit.tuning, work)["model"] for work in (*works, make_again(works[1]))] == ["same", "same-2", "same-2"]
    assert kit.tuning.card("same").job_id == "one" and kit.tuning.card("same-2").job_id == "two"


def test_plain_transformers_loads_it_and_begins_as_the_training_did(kit: Kit, texts: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = train_model(kit.tuning, make_work(kit, texts, "plain", steps=2))["adapter_path"]
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    assert tokenizer("犬は").input_ids[0] == tokenizer.bos_token_id == model.config.bos_token_id
    messages = [{"role": "user", "content": "犬は"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "<s>犬は"
    assert kit.models.turn_encoder("plain").encode_prompt([Message("user", "犬は")])[0] == tokenizer.bos_token_id


def test_an_interrupted_run_ends_with_the_same_weights_as_an_uninterrupted_one(kit: Kit, texts: Path) -> None:
    """Stopped after 13 steps, with a checkpoint, and taken up: bit for bit."""
    whole = make_work(kit, texts, "whole", steps=24, eval_every=12, save_every=5)
    train_model(kit.tuning, whole)
    part = make_work(kit, texts, "part", steps=24, eval_every=12, save_every=5)
    part.stop_after = 13
    stopped = train_model(kit.tuning, part)
    assert stopped["stopped"] and stopped["steps"] == 13 and "model" not in stopped
    assert find_checkpoint(part.folder) == part.folder / FOLDER / "step-000013"
    rest = FakeWork(part.job, part.folder, resumed=True)
    result = train_model(kit.tuning, rest)
    assert rest.of("started")[0]["step"] == 13 and rest.of("note") and result["steps"] == 24
    weights = [(kit.settings.adapters_folder / name / "model.safetensors").read_bytes() for name in ("whole", "part")]
    assert weights[0] == weights[1]
    assert whole.of("eval")[-1]["eval_loss"] == rest.of("eval")[-1]["eval_loss"]


def test_a_damaged_checkpoint_is_passed_over_and_two_are_kept(kit: Kit, texts: Path) -> None:
    work = make_work(kit, texts, "damaged", steps=10, eval_every=10, save_every=3)
    train_model(kit.tuning, work)
    kept = sorted(path.name for path in (work.folder / FOLDER).iterdir())
    assert kept == ["step-000006", "step-000009"]
    (work.folder / FOLDER / "step-000009" / "model.safetensors").write_bytes(b"half")
    assert find_checkpoint(work.folder) == work.folder / FOLDER / "step-000006"


def test_a_full_disk_keeps_the_last_good_checkpoint(kit: Kit, texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmops_kit.tuning.pretraining import checkpoints

    work = make_work(kit, texts, "full", steps=10, eval_every=10, save_every=3)

    def refuse(folder: Path) -> None:
        if "000006" in folder.name:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "seal", _before(refuse, checkpoints.seal))
    with pytest.raises(OSError, match="No space"):
        train_model(kit.tuning, work)
    assert [path.name for path in (work.folder / FOLDER).iterdir()] == ["step-000003"]


def _before(first: Any, then: Any) -> Any:
    def both(folder: Path) -> None:
        first(folder)
        then(folder)

    return both


def test_a_loss_that_is_no_number_stops_the_run(kit: Kit, texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmops_kit.errors import Diverged
    from llmops_kit.tuning.pretraining import running

    taken = running.take_step

    def diverge(*args: Any, **more: Any) -> Any:
        from dataclasses import replace

        return replace(taken(*args, **more), loss=float("nan"))

    monkeypatch.setattr(running, "take_step", diverge)
    with pytest.raises(Diverged, match="step 1"):
        train_model(kit.tuning, make_work(kit, texts, "nan", steps=3))


def test_texts_are_read_in_both_encodings_and_split_by_what_they_say(tmp_path: Path, texts: Path) -> None:
    (texts / "c.txt").write_bytes(("これは昔の文字コードで書かれた文章です。" * 20).encode("cp932"))
    (texts / ".hidden.txt").write_text("秘密" * 500, encoding="utf-8")
    (texts / "picture.png").write_bytes(b"\x89PNG")
    corpus = read_corpus(texts, max_mb=1)
    assert [text.name for text in corpus.texts] == ["a.txt", "c.txt", "more/b.md"] and corpus.texts[1].text.startswith("これは昔")
    learnt, kept = corpus.split(0.2, 7)
    assert (learnt, kept) == corpus.split(0.2, 7) != corpus.split(0.2, 8)
    assert kept and not any(passage in text for passage in kept for text in learnt)
    assert 0.05 < sum(map(len, kept)) / corpus.characters < 0.45
    corpus.freeze(tmp_path / "job")
    assert read_frozen_corpus(tmp_path / "job") == corpus
    file = tmp_path / "job" / CORPUS_FILE
    file.write_text(file.read_text(encoding="utf-8").replace("昔", "今"), encoding="utf-8")
    with pytest.raises(UnreadableFile, match="changed"):
        read_frozen_corpus(tmp_path / "job")


def test_a_text_without_empty_lines_is_split_as_well() -> None:
    lines = "".join(f"{number}番目の行です。言葉が並びます。\n" for number in range(300))
    for text in (lines.strip(), lines.replace("\n", ""), "あ" * 5000, lines * 2 + "\n\n" + "a b. " * 900):
        for seed in (7, 8, 9):
            learnt, kept = Corpus((Text("a.txt", text),), "").split(0.1, seed)
            assert 0 < sum(map(len, kept)) < 0.35 * len(text) and sum(map(len, learnt)) > 0.6 * len(text)


def test_what_cannot_be_learnt_from_is_refused_before_there_is_a_job(kit: Kit, texts: Path, tmp_path: Path) -> None:
    empty, short, binary = tmp_path / "empty", tmp_path / "short", tmp_path / "binary"
    for folder in (empty, short, binary):
        folder.mkdir()
    (short / "a.txt").write_text("短い文。", encoding="utf-8")
    (binary / "a.txt").write_bytes(b"PK\x03\x04\x00\x00" * 900)
    for folder, error in ((empty, InvalidValue), (short, InvalidValue), (binary, UnreadableFile), (tmp_path / "none", UnreadableFile)):
        with pytest.raises(error) as caught:
            kit.tuning.pretrain(folder)
        assert caught.value.text("ja") != caught.value.text("en")
    with pytest.raises(UnreadableFile, match="at most"):
        read_corpus(texts, max_mb=0.001)
    for fields in ({"size": "huge"}, {"steps": 0}, {"name": "Bad Name"}, {"colour": "red"}, {"learning_rate": 10}, {"device": "cuda"}):
        with pytest.raises(InvalidValue, match=next(iter(fields))):
            kit.tuning.pretrain(texts, **fields)
    with pytest.raises(InvalidValue, match="starter-lm"):
        kit.tuning.pretrain(texts, name="starter-lm")
    assert not kit.jobs.find() and not list(kit.settings.jobs_folder.glob("*"))


def test_a_disk_that_refuses_the_texts_is_told(tmp_path: Path, texts: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(NotSaved):
        read_corpus(texts, max_mb=1).freeze(tmp_path / "file")


def test_the_plan_follows_text_and_size_and_resolving_again_changes_nothing(kit: Kit, texts: Path) -> None:
    plan = plan_pretraining(PretrainSpec(folder=texts), kit.settings)
    assert plan.spec.steps == 60 and plan.spec.vocabulary == 2048 and plan.estimate.fits and 5e5 < plan.estimate.trainable_parameters < 2e6
    assert resolve(plan.spec, "cpu", characters=10**9) == plan.spec
    assert resolve(PretrainSpec(folder=texts), "cpu", characters=10**9).steps == 500
    large = resolve(PretrainSpec(folder=texts, size="large"), "cuda", characters=10**9)
    assert large.batch_tokens == 32_768 and large.vocabulary == 8192
    assert "メモリー" in plan.estimate.text("ja")


def test_every_token_is_seen_once_an_epoch_in_an_order_of_its_own() -> None:
    packed = Packed(range(1000), begin=0, width=33, rows=4, seed=7)
    first, second = packed.windows(0), packed.windows(1)
    assert first != second and packed.windows(0) == first
    covered = sum(end - start for start, end in first)
    assert covered >= 1000 - 2 * 8 and len({place for start, end in first for place in range(start, end)}) == covered
    for step in range(3 * packed.steps_per_epoch):
        batch = packed.batch(step)
        assert batch and all(prompt == [0] and 8 <= len(answer) <= 32 for prompt, answer in batch)
    assert packed.batch(5) == Packed(range(1000), begin=0, width=33, rows=4, seed=7).batch(5)

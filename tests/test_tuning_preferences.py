"""From what people prefer to a model that does it: pairs and labels as ids, DPO and KTO, and the whole round trip on the starter model."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmops_kit.errors import Diverged, InvalidValue
from llmops_kit.kit import Kit
from llmops_kit.tuning import TuneSpec
from llmops_kit.tuning.dataset import read_dataset
from llmops_kit.tuning.frozen import freeze_dataset
from llmops_kit.tuning.training import preferences
from llmops_kit.tuning.training.preference_rows import encode_labelled, encode_pairs, pair_for_kl, spread_labels
from llmops_kit.types import Job, Message, new_id, now
from tests.preference_data import HELD_OUT, PROMPT, TAUGHT, is_polite, pairs_of
from tests.tiny_model import STARTER_FOLDER, build_tiny_model


@dataclass
class Work:
    """A job in this process: what it tells is kept, and it stops after `stop_after` steps."""

    job: Job
    folder: Path
    stop_after: int | None = None
    events: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)
    rank: int = 0
    processes: int = 1
    pulse: Any = field(default_factory=lambda: SimpleNamespace(terminated=False, cancelled=True))

    def event(self, kind: str, step: int, **data: Any) -> None:
        self.events.append((kind, step, data))

    def note(self, en: str, ja: str, step: int = 0) -> None:
        self.event("note", step, en=en, ja=ja)

    def progress(self, *_: Any, **__: Any) -> None:
        return

    def is_cancelled(self) -> bool:
        done = max((step for kind, step, _ in self.events if kind == "train"), default=0)
        return self.stop_after is not None and done >= self.stop_after - 1

    def of(self, kind: str) -> list[tuple[int, dict[str, Any]]]:
        return [(step, data) for name, step, data in self.events if name == kind]


@pytest.fixture
def kit(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    import torch

    monkeypatch.setattr(preferences, "use_all_cores", lambda *_: torch.set_num_threads(1))  # other tests run beside this one
    with Kit(settings.model_copy(update={"local_threads": 1})) as opened:
        yield opened


def start(kit: Kit, spec: TuneSpec, *, id: str | None = None, stop_after: int | None = None) -> Work:
    """A job whose data is frozen, as a launch leaves it."""
    job = Job(id or new_id(), now(), "local", "tune", spec.name or "", spec.model_dump(mode="json"))
    folder = kit.settings.jobs_folder / job.id
    if not folder.exists():
        freeze_dataset(kit.tuning.read(spec.data), folder)
    return Work(job, folder, stop_after)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def needs_starter() -> None:
    if not (STARTER_FOLDER / "SHA256SUMS").is_file():
        pytest.skip("the weights of starter-lm are not there")


def add_tiny(kit: Kit, folder: Path) -> None:
    kit.models.add("tiny", provider="huggingface", model=str(build_tiny_model(folder)), context_tokens=512, dtype="float32")


def test_the_prompt_is_what_inference_sends_and_both_answers_follow_it_to_their_end(kit: Kit, tmp_path: Path) -> None:
    needs_starter()
    turns = [{"role": role, "content": text} for role, text in (("user", "あ"), ("assistant", "い"), ("user", "う？"))]
    rows = read_dataset(
        [
            {"prompt": turns, "chosen": "え。", "rejected": "お<|im_end|>。"},
            *pairs_of(2),
        ],
        max_mb=1,
    ).examples
    encoder, engine = kit.models.turn_encoder("starter-lm"), kit.models.chat("starter-lm").engine
    for example, row in zip(rows, encode_pairs(encoder, rows, 512), strict=True):
        assert row["prompt_ids"] == engine.render(list(example.prompt))
        for name, text in (("chosen_ids", example.answer), ("rejected_ids", example.rejected)):
            whole = encoder.encode([[*example.prompt, Message("assistant", str(text))]])[0][-1]
            assert tuple(row["prompt_ids"] + row[name]) == whole.ids and row[name][-1] in encoder.end_ids
            assert not set(row[name][:-1]) & encoder.end_ids, "an end token within a text is text"
    (short, *_) = encode_pairs(encoder, rows[:1], 12)
    full = encode_pairs(encoder, rows[:1], 512)[0]
    assert len(short["prompt_ids"]) + max(len(short["chosen_ids"]), len(short["rejected_ids"])) <= 12
    assert full["prompt_ids"][-len(short["prompt_ids"]) :] == short["prompt_ids"], "what is too much is cut from the beginning of the prompt"


def test_labels_are_spread_and_each_answer_stands_beside_another_one_of_its_batch(kit: Kit) -> None:
    needs_starter()
    examples = read_dataset(pairs_of(9), max_mb=1).convert("kto").examples[:13]
    rows = spread_labels(encode_labelled(kit.models.turn_encoder("starter-lm"), examples, 512))
    assert all(abs(sum(row["label"] for row in rows[:count]) - count * 7 / 13) <= 1 for count in range(1, 14))
    paired = pair_for_kl(rows, 4)
    assert len(paired) == 12, "the last one has nobody beside it"
    for batch in (paired[start : start + 4] for start in range(0, 12, 4)):
        assert sorted(map(tuple, (row["KL_completion_ids"] for row in batch))) == sorted(map(tuple, (row["completion_ids"] for row in batch)))
        assert all(row["KL_completion_ids"] is batch[place - 1]["completion_ids"] for place, row in enumerate(batch))


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_a_resumed_run_ends_with_the_same_adapter_as_one_that_was_not_stopped(kit: Kit, tmp_path: Path, method: str) -> None:
    from safetensors.torch import load_file

    add_tiny(kit, tmp_path / "tiny")
    spec = TuneSpec(
        base="tiny", data=str(write(tmp_path / "pairs.jsonl", pairs_of(16))), name="p", method=method, epochs=2, batch_tokens=1200, eval_every=2, save_every=2
    )  # type: ignore[arg-type]
    whole = start(kit, spec)
    first = kit.tuning.train(whole)  # type: ignore[arg-type]
    assert first["steps"] >= 4 and "stopped" not in first
    half = start(kit, spec, stop_after=3)
    stopped = kit.tuning.train(half)  # type: ignore[arg-type]
    assert stopped["stopped"] and stopped["steps"] == 3 and kit.models.get(stopped["model"]).adapter
    again = start(kit, spec, id=half.job.id)
    last = kit.tuning.train(again)  # type: ignore[arg-type]
    assert last["model"] != stopped["model"] and last["eval_loss"] == first["eval_loss"]
    losses = {step: data["loss"] for step, data in whole.of("train")}
    assert {step: data["loss"] for step, data in [*half.of("train"), *again.of("train")]} == losses, "the same rows in the same steps"
    one, other = (load_file(Path(str(result["adapter_path"])) / "adapter_model.safetensors") for result in (first, last))
    assert all(bool((one[name] == other[name]).all()) for name in one)


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_rows_that_the_template_refuses_are_left_out_and_counted(kit: Kit, tmp_path: Path, method: str) -> None:
    add_tiny(kit, tmp_path / "tiny")
    file = tmp_path / "tiny" / "chat_template.jinja"
    strict = "{% for m in messages %}{% if 'だめ' in m.content %}{{ raise_exception('no') }}{% endif %}{% endfor %}"
    file.write_text(strict + file.read_text(encoding="utf-8"), encoding="utf-8")
    rows = [{**row, "prompt": f"だめ {row['prompt']}"} if number % 4 == 0 else row for number, row in enumerate(pairs_of(16))]
    spec = TuneSpec(base="tiny", data=str(write(tmp_path / "pairs.jsonl", rows)), name="p", method=method, epochs=1, batch_tokens=1200, prompts=("あ", "だめ"))  # type: ignore[arg-type]
    work = start(kit, spec)
    result = kit.tuning.train(work)  # type: ignore[arg-type]
    notes = [data["en"] for _, data in work.of("note")]
    assert result["train_rows"] + result["eval_rows"] == 12 * (1 if method == "dpo" else 2)
    assert any("training rows were left out" in note for note in notes) and any("1 of the prompts" in note for note in notes), notes


def test_what_cannot_be_learnt_from_and_what_diverges_is_told(kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_tiny(kit, tmp_path / "tiny")
    good = [{"prompt": row["prompt"], "completion": row["chosen"], "label": True} for row in pairs_of(8)]
    spec = TuneSpec(base="tiny", data=str(write(tmp_path / "good.jsonl", good)), name="p", method="kto")
    with pytest.raises(InvalidValue, match="some are bad"):
        kit.tuning.train(start(kit, spec))  # type: ignore[arg-type]
    pairs = spec.change(data=str(write(tmp_path / "pairs.jsonl", pairs_of(8))), method="dpo")
    several = start(kit, pairs)
    several.processes = 2
    with pytest.raises(InvalidValue, match="processes"):
        kit.tuning.train(several)  # type: ignore[arg-type]
    from llmops_kit.tuning.training import preference_trainer

    monkeypatch.setattr(preference_trainer.DPOTrainer, "training_step", lambda *_: float("nan"))
    with pytest.raises(Diverged):
        kit.tuning.train(start(kit, pairs))  # type: ignore[arg-type]
    assert not [entry for entry in kit.models.entries() if "+" in entry.id]


def test_good_and_bad_answers_move_the_model_towards_the_good_ones(kit: Kit, tmp_path: Path) -> None:
    needs_starter()
    data = write(tmp_path / "pairs.jsonl", pairs_of(20))
    spec = TuneSpec(data=str(data), name="kto", method="kto", epochs=2, batch_tokens=640, learning_rate=2e-3, eval_share=0.3, eval_every=1000)
    work = start(kit, spec)
    result = kit.tuning.train(work)  # type: ignore[arg-type]
    assert result["eval_loss_before"] == 0.5 and result["eval_loss"] < 0.45
    assert result["reward_accuracy"] >= 0.8 and result["reward_margin"] > 0.3
    card = kit.tuning.card(result["model"])
    assert card.method == "kto" and card.metrics["reward_margin"] == result["reward_margin"] and "報酬の差" in card.markdown("ja")


def test_the_round_trip_from_votes_to_the_next_duel(kit: Kit, tmp_path: Path) -> None:
    """Two raters like the polite form, which starter-lm rarely chooses; after DPO on their votes it does, on sentences nobody voted on."""
    needs_starter()
    variants = [{"model": "starter-lm", "label": f"try {seed}", "params": {"temperature": 1.0, "seed": seed, "max_tokens": 40}} for seed in range(4)]
    table = kit.comparison.batch(PROMPT, variants, [{"text": text} for text in TAUGHT], progress=False, workers=32)
    by_item: dict[str, list[Any]] = {}
    for run in kit.comparison.runs(table.attrs["comparison_id"]):
        by_item.setdefault(str(run.item), []).append(run)
    for runs in by_item.values():
        texts = {run.output: run for run in runs if run.output.strip().endswith("。")}
        polite, plain = ([run for text, run in texts.items() if is_polite(text) is wanted] for wanted in (True, False))
        for better in polite[:3]:
            for worse in plain[:3]:
                for rater in ("hana", "taro"):
                    kit.comparison.vote(kit.comparison.pair(worse, better), "B", rater=rater)
    report = kit.feedback.export("dpo", tmp_path / "votes.jsonl", comparison=table.attrs["comparison_id"])
    assert report.rows >= 8
    assert len(kit.tuning.read(f"comparison:{table.attrs['comparison_id']}").examples) == report.rows, "the same rows without a file"
    spec = kit.tuning.spec(report.path, name="polite", epochs=6, learning_rate=1e-3, batch_tokens=200, eval_share=0.2, eval_every=1000)
    assert spec.method == "dpo", "what the file is for is recognised"
    work = start(kit, spec)
    result = kit.tuning.train(work)  # type: ignore[arg-type]
    assert math.isclose(result["eval_loss_before"], math.log(2)) and result["eval_loss"] < 0.6
    assert result["reward_accuracy"] >= 0.8 and result["preference_accuracy"] > result["preference_accuracy_before"]
    model = str(result["model"])
    asked = [f"次の文を書き直してください。\n{text}" for text in HELD_OUT]
    before, after = ([is_polite(str(kit.models.chat(name).invoke(text, max_tokens=40).content)) for text in asked] for name in ("starter-lm", model))
    print(f"\npairs {report.rows}, steps {result['steps']}, {result['seconds']} s; polite on {len(asked)} held-out: {sum(before)} → {sum(after)}; {result}")
    assert sum(before) <= 1 and sum(after) >= 6, "of 12"
    duel = kit.tuning.compare(model, progress=False)
    assert [model for model in duel.columns if model.startswith("starter-lm")] == ["starter-lm", model]
    assert kit.comparison.pairs(duel, rater="hana", n=3), "the next duel is ready"

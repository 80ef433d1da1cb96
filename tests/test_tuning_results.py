"""What comes out of a tuning: a model with a card, at once and whole; it goes out to plain libraries and comes in from them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llmops_kit.errors import InvalidValue, ModelRefused, UnknownName
from llmops_kit.kit import Kit
from llmops_kit.models import Models
from llmops_kit.models.adapter_files import WEIGHTS_FILE
from llmops_kit.settings import Settings
from llmops_kit.tuning import TuneSpec, publishing
from llmops_kit.tuning.dataset import Dataset, read_dataset
from llmops_kit.tuning.frozen import freeze_dataset
from llmops_kit.tuning.publishing import make_id, publish_adapter
from llmops_kit.types import Job, Message, new_id, now
from tests.small_adapters import OSAKA, POLITE, ROWS, train_small
from tests.tiny_model import STARTER_FOLDER

PLAIN = """
import json, sys
sys.modules["llmops_kit"] = None                 # nothing of the kit: only plain libraries
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
how, folder, asked = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
if how == "adapter":
    from peft import AutoPeftModelForCausalLM
    model = AutoPeftModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
else:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
tokenizer, answers = AutoTokenizer.from_pretrained(folder), []
for question in asked:
    ids = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt")
    written = model.eval().generate(**ids, max_new_tokens=40, do_sample=False)[0, ids["input_ids"].shape[1]:]
    answers.append(tokenizer.decode(written, skip_special_tokens=True))
print(json.dumps(answers))
"""
FRESH = ["奈良はどこですか。", "有給休暇について教えてください。"]


@dataclass
class Work:
    """The job of a tuning, as publishing sees it."""

    job: Job


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    if not (STARTER_FOLDER / "SHA256SUMS").is_file():
        pytest.skip("the weights of starter-lm are not there")
    models = Models(Settings(workspace=tmp_path_factory.mktemp("workspace")))
    made = {name: train_small(models, "starter-lm", answers, tmp_path_factory.mktemp(name)) for name, answers in (("osaka", OSAKA), ("polite", POLITE))}
    parts = ["o_proj", "gate_proj", "up_proj", "down_proj"]  # rows of zeros, as in q_proj, have no direction: DoRA divides by their length
    made["dora"] = train_small(models, "starter-lm", OSAKA, tmp_path_factory.mktemp("dora"), use_dora=True, target_modules=parts)
    return made


@pytest.fixture
def kit(settings: Settings) -> Any:
    with Kit(settings.model_copy(update={"local_threads": 1})) as opened:  # other tests run beside this one
        yield opened


def rows_of(answers: list[str]) -> Dataset:
    return read_dataset([{"prompt": asked, "completion": answer} for asked, answer in zip(ROWS, answers, strict=True)], max_mb=1)


def make_job(id: str | None = None, owner: str = "yamada") -> Work:
    return Work(Job(id or new_id(), now(), owner, "tune", "osaka", {}))


def publish(kit: Kit, folder: Path, *, work: Work | None = None, method: str = "lora", answers: list[str] = OSAKA, **facts: Any) -> Any:
    spec = TuneSpec(base="starter-lm", data="rows.csv", name="osaka", method=method, eval_share=0.34)  # type: ignore[arg-type]
    work = work or make_job()
    freeze_dataset(rows_of(answers), kit.settings.jobs_folder / work.job.id)
    given = {"steps": 60, "eval_loss_before": 4.2, "eval_loss": 0.1, "samples": [{"prompt": ROWS[0], "base": "…", "text": OSAKA[0]}], **facts}
    return publish_adapter(kit.tuning, work, spec, rows_of(answers), folder, given)


def ask_plainly(how: str, folder: Path, asked: list[str]) -> list[str]:
    """Greedy answers of a process that knows only transformers and PEFT."""
    call = [sys.executable, "-W", "ignore", "-c", PLAIN, how, str(folder), json.dumps(asked)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120, check=True, cwd=folder.parent)
    return list(json.loads(done.stdout.splitlines()[-1]))


def encoded_prompt(kit: Kit) -> str:
    encoder = kit.models.turn_encoder("starter-lm")
    return str(encoder.tokenizer.decode(encoder.encode_prompt([Message("user", "…")])))


def ask(kit: Kit, model: str, asked: list[str]) -> list[str]:
    return [str(kit.models.chat(model).invoke(question, max_tokens=40).content) for question in asked]


def test_a_published_adapter_is_a_model_with_a_card_and_its_answers_are_what_was_learnt(kit: Kit, trained: dict[str, Path]) -> None:
    work = make_job()
    entry = publish(kit, trained["osaka"], work=work)
    assert entry.id == "starter-lm+osaka" and ask(kit, entry.id, ROWS) == OSAKA
    folder = kit.settings.adapters_folder / entry.id
    assert {file.name for file in folder.iterdir()} == {"adapter_config.json", WEIGHTS_FILE, "card.json", "SHA256SUMS"}
    card = kit.tuning.card(entry.id)
    assert (card.base, card.owner, card.job_id, card.method, card.metrics["eval_loss"]) == ("starter-lm", "yamada", work.job.id, "lora", 0.1)
    assert card.template_sha256 == kit.models.turn_encoder("starter-lm").template_sha256 and card.base_revision.startswith("sha256:")
    assert card.data_sha256 == rows_of(OSAKA).sha256 and set(card.versions) >= {"torch", "peft", "transformers"}
    assert "yamada" in card.markdown("ja") and "評価損失（前）" in card.markdown("ja") and "4.2" in card.markdown("en") and OSAKA[0] in card._repr_markdown_()
    with pytest.raises(UnknownName):
        kit.tuning.card("starter-lm")


def test_publishing_again_after_a_kill_gives_the_same_model_and_a_taken_name_gets_a_number(
    kit: Kit, trained: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = make_job()
    with monkeypatch.context() as patched:
        patched.setattr(publishing, "_register", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            publish(kit, trained["osaka"], work=work)
    assert "starter-lm+osaka" not in {entry.id for entry in kit.models.entries()}, "renamed, and lost before it was registered"
    left = kit.settings.adapters_folder / f".{work.job.id}.part"
    left.mkdir()
    (left / "half").write_text("of an earlier try")
    assert publish(kit, trained["osaka"], work=work).id == "starter-lm+osaka"
    assert publish(kit, trained["osaka"], work=work).id == "starter-lm+osaka", "the same job at the same step is the same model"
    assert publish(kit, trained["polite"], work=work, steps=90).id == "starter-lm+osaka-2", "resumed after a cancel: a model people use does not change"
    assert publish(kit, trained["polite"], answers=POLITE).id == "starter-lm+osaka-3"
    assert ask(kit, "starter-lm+osaka", ROWS[:2]) == OSAKA[:2] and ask(kit, "starter-lm+osaka-3", ROWS[:2]) == POLITE[:2]
    shown = sorted(path.name for path in kit.settings.adapters_folder.iterdir() if not path.name.startswith("."))
    assert shown == ["starter-lm+osaka", "starter-lm+osaka-2", "starter-lm+osaka-3"]


def test_nothing_is_registered_of_weights_that_diverged_or_a_disk_that_is_full(
    kit: Kit, trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file, save_file

    broken = Path(shutil.copytree(trained["osaka"], tmp_path / "broken"))
    tensors = load_file(broken / WEIGHTS_FILE)
    next(iter(tensors.values()))[0, 0] = float("inf")
    save_file(tensors, broken / WEIGHTS_FILE)
    with pytest.raises(ModelRefused, match="not finite"):
        publish(kit, broken)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(publishing.shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space left"):
            publish(kit, trained["osaka"])
    assert [entry.id for entry in kit.models.entries() if "+" in entry.id] == [] and list(kit.settings.adapters_folder.iterdir()) == []
    assert publish(kit, trained["osaka"]).id == "starter-lm+osaka", "with room again"


def test_plain_peft_and_plain_transformers_answer_as_the_kit_does(kit: Kit, trained: dict[str, Path], tmp_path: Path) -> None:
    entry = publish(kit, trained["osaka"])
    asked = [*ROWS[:2], *FRESH]
    wanted = ask(kit, entry.id, asked)
    adapter = kit.tuning.export(entry.id, tmp_path / "adapter")
    merged = kit.tuning.export(entry.id, tmp_path / "merged", merge=True)
    assert ask_plainly("adapter", adapter, asked) == wanted
    assert ask_plainly("merged", merged, asked) == wanted
    assert {"adapter_config.json", WEIGHTS_FILE, "tokenizer.json", "chat_template.jinja", "README.md", "card.json", "SHA256SUMS"} <= {
        file.name for file in adapter.iterdir()
    }
    readme = (adapter / "README.md").read_text(encoding="utf-8")
    assert "--max-lora-rank 8" in readme and encoded_prompt(kit) in readme and "評価損失" in readme
    kept = json.loads((adapter / "card.json").read_text(encoding="utf-8"))
    assert kept["owner"] == "" and kept["samples"] == [] and kept["metrics"]["eval_loss"] == 0.1, "nobody's name and nobody's text leave with it"
    with pytest.raises(InvalidValue, match="empty"):
        kit.tuning.export(entry.id, adapter)
    with pytest.raises(InvalidValue, match="tuned model"):
        kit.tuning.export("starter-lm", tmp_path / "bare")


def test_a_dora_adapter_becomes_a_whole_model(kit: Kit, trained: dict[str, Path], tmp_path: Path) -> None:
    entry = publish(kit, trained["dora"], method="dora")
    assert entry.adapter is None and entry.provider == "huggingface"
    assert ask(kit, entry.id, ROWS) == OSAKA and kit.tuning.card(entry.id).method == "dora"
    exported = kit.tuning.export(entry.id, tmp_path / "whole")
    assert ask_plainly("merged", exported, ROWS[:2]) == OSAKA[:2]
    weights = next((kit.settings.adapters_folder / entry.id).glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    kit.models.unload(entry.id)
    weights.write_bytes(data)
    with pytest.raises(ModelRefused, match="damaged"):
        kit.models.chat(entry.id)


def test_an_adapter_made_elsewhere_comes_in_checked_and_with_its_warnings(kit: Kit, trained: dict[str, Path], tmp_path: Path) -> None:
    entry = kit.tuning.add(trained["polite"], base="starter-lm", name="Polite 敬語")
    assert entry.id == "starter-lm+polite" and ask(kit, entry.id, ROWS) == POLITE
    card = kit.tuning.card(entry.id)
    assert len(card.warnings) == 2 and "プロンプト形式が不明" in entry.note("ja") and "not known" in entry.note("en")
    with pytest.raises(InvalidValue, match="already"):
        kit.tuning.add(trained["polite"], base="starter-lm", name="polite")
    assert kit.tuning.add(trained["dora"], name="scaled").adapter is None
    exported = kit.tuning.export(entry.id, tmp_path / "again")
    back = kit.tuning.add(exported, name="back")
    assert kit.tuning.card(back.id).warnings == card.warnings and ask(kit, back.id, ROWS[:1]) == POLITE[:1], "what was not known then is not known now"
    osaka = publish(kit, trained["osaka"])
    again = kit.tuning.add(kit.tuning.export(osaka.id, tmp_path / "osaka"), name="again")
    assert kit.tuning.card(again.id).warnings == () and kit.tuning.card(again.id).metrics["eval_loss"] == 0.1


def test_what_is_no_adapter_of_this_base_does_not_come_in(kit: Kit, trained: dict[str, Path], tmp_path: Path) -> None:
    packed = tmp_path / "adapter.zip"
    packed.write_bytes(b"PK\x03\x04")
    with pytest.raises(InvalidValue, match="unpack"):
        kit.tuning.add(packed)
    other = Path(shutil.copytree(trained["osaka"], tmp_path / "other"))
    (other / "chat_template.jinja").write_text("{% for m in messages %}USER: {{ m['content'] }}\n{% endfor %}ASSISTANT:", encoding="utf-8")
    with pytest.raises(ModelRefused, match="reads otherwise"):
        kit.tuning.add(other)
    template = (STARTER_FOLDER / "chat_template.jinja").read_text(encoding="utf-8")
    (other / "chat_template.jinja").write_text(template + "{# the same, written otherwise #}", encoding="utf-8")
    assert len(kit.tuning.card(kit.tuning.add(other, name="same").id).warnings) == 1
    config = json.loads((other / "adapter_config.json").read_text(encoding="utf-8"))
    evil = {"auto_mapping": {"base_model_class": "X", "parent_library": "os"}, "target_modules": "(.+)+$"}
    (other / "adapter_config.json").write_text(json.dumps(config | evil), encoding="utf-8")
    came = kit.tuning.add(other, name="cleaned")
    clean = json.loads((Path(str(came.adapter)) / "adapter_config.json").read_text(encoding="utf-8"))
    assert "auto_mapping" not in clean and isinstance(clean["target_modules"], list) and ask(kit, came.id, ROWS[:1]) == OSAKA[:1]
    (other / "adapter_config.json").write_text(json.dumps(config | {"modules_to_save": ["lm_head"]}), encoding="utf-8")
    with pytest.raises(ModelRefused, match="modules_to_save"):
        kit.tuning.add(other, name="more")


def test_base_and_tuned_are_compared_on_the_rows_kept_for_evaluation(kit: Kit, trained: dict[str, Path]) -> None:
    entry = publish(kit, trained["osaka"])
    table = kit.tuning.compare(entry.id, owner="yamada", progress=False)
    held = {example.question for example in rows_of(OSAKA).split(0.34, 7)[1]}
    assert set(table["question"]) == held and len(table) >= 2 and list(table.columns)[-2:] == ["starter-lm", entry.id]
    assert list(table[entry.id]) == list(table["expected"]) and not set(table["starter-lm"]) & set(table["expected"])
    deltas = kit.comparison.deltas(table.attrs["comparison_id"])
    exact = deltas[(deltas["variant"] == entry.id) & (deltas["measure"] == "exact_match")].iloc[0]
    assert (exact["mean"], exact["baseline_mean"], exact["n"]) == (1.0, 0.0, len(table))
    (pair,) = kit.comparison.pairs(table, rater="tanaka")
    assert pair.question in held and "starter-lm" not in repr(pair)
    assert kit.comparison.vote(pair, entry.id, rater="tanaka").rater == "tanaka"
    assert len(kit.tuning.compare(entry.id, n=1, progress=False)) == 1
    with pytest.raises(InvalidValue):
        kit.tuning.compare(entry.id, n=0)


def test_names_become_ids() -> None:
    assert make_id("starter-lm", "Ｐｏｌｉｔｅ rows.v2!") == "starter-lm+polite-rows.v2"
    assert make_id("starter-lm", "丁寧") == "starter-lm+tuned"
    assert len(make_id("b" * 70, "n" * 60)) <= 80

"""Adapters of one base: from another process into every list, several in one batch, and refused where they do not belong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from llmops_kit.errors import ModelRefused
from llmops_kit.models import Models
from llmops_kit.models.loading import fingerprint
from llmops_kit.settings import Settings
from tests.small_adapters import CITIES, OSAKA, POLITE, ROWS, train_small
from tests.tiny_model import STARTER_FOLDER, build_tiny_model

ADD = """
import sys
from pathlib import Path
from llmops_kit.models import Models
from llmops_kit.settings import Settings
models = Models(Settings(workspace=Path(sys.argv[1])))
for name in sys.argv[3:]:
    models.add(name, base="starter-lm", adapter=sys.argv[2])
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters of starter-lm, each trained on a manner of speech."""
    if not (STARTER_FOLDER / "SHA256SUMS").is_file():
        pytest.skip("the weights of starter-lm are not there")
    models = Models(Settings(workspace=tmp_path_factory.mktemp("workspace")))
    return {name: train_small(models, "starter-lm", answers, tmp_path_factory.mktemp(name)) for name, answers in (("osaka", OSAKA), ("polite", POLITE))}


def add_by_another_process(workspace: Path, adapter: Path, *names: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", ADD, str(workspace), str(adapter), *names], cwd=Path(__file__).parent.parent)


def write_card(folder: Path, **facts: str) -> Path:
    (folder / "card.json").write_text(json.dumps({"base": "starter-lm", **facts}), encoding="utf-8")
    return folder


def copy(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


def test_two_trained_adapters_share_one_base_and_one_batch_and_come_from_another_process(settings: Settings, trained: dict[str, Path]) -> None:
    models = Models(settings.model_copy(update={"local_threads": 1}))  # other tests run beside this one
    before = {entry.id for entry in models.entries()}
    assert add_by_another_process(settings.workspace, trained["osaka"], "starter-lm+osaka").wait(60) == 0
    assert add_by_another_process(settings.workspace, trained["polite"], "starter-lm+polite").wait(60) == 0
    assert {entry.id for entry in models.entries()} - before == {"starter-lm+osaka", "starter-lm+polite"}, "at once, in a kit opened before"
    assert "starter-lm+polite" in set(models.table()["id"])
    wanted = dict(zip(("starter-lm+osaka", "starter-lm+polite"), (OSAKA, POLITE), strict=True))
    for id, answers in wanted.items():
        assert [models.chat(id).invoke(asked).content for asked in ROWS] == answers, "each learnt its manner"
    bare = [models.chat("starter-lm").invoke(asked).content for asked in ROWS]
    assert not set(bare) & {*OSAKA, *POLITE}, "the bare base speaks as before, between two adapters"
    together: dict[tuple[str, str], object] = {}

    def ask(id: str, asked: str) -> None:
        together[id, asked] = models.chat(id).invoke(asked).content

    threads = [threading.Thread(target=ask, args=(id, asked)) for asked in ROWS for id in ("starter-lm", *wanted)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for id, answers in {"starter-lm": bare, **wanted}.items():
        assert [together[id, asked] for asked in ROWS] == answers, "in one batch each row has its own adapter"
    sizes = sorted(info.memory_mb for info in models.loaded())
    assert len(sizes) == 3 and sizes[:2] == [0, 0], "one set of weights in memory"


def test_processes_that_add_at_the_same_time_lose_no_entry(settings: Settings, trained: dict[str, Path]) -> None:
    models = Models(settings)
    names = [[f"m{process}-{number}" for number in range(6)] for process in range(3)]
    started = [add_by_another_process(settings.workspace, trained["osaka"], *some) for some in names]
    for number in range(6):
        models.add(f"own-{number}", base="starter-lm", adapter=str(trained["osaka"]))
    assert [process.wait(120) for process in started] == [0, 0, 0]
    added = {entry.id for entry in models.entries()}
    assert added >= {name for some in names for name in some} | {f"own-{number}" for number in range(6)}
    assert {entry.id for entry in Models(settings).entries()} == added


def test_an_entry_that_changes_in_the_file_is_loaded_anew_and_a_broken_file_changes_nothing(settings: Settings, trained: dict[str, Path]) -> None:
    models = Models(settings)
    models.add("styled", base="starter-lm", adapter=str(trained["osaka"]))
    assert models.chat("styled").invoke(ROWS[0]).content == OSAKA[0]
    file = settings.catalogue_file
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(str(trained["osaka"]), str(trained["polite"])), encoding="utf-8")
    assert models.chat("styled").invoke(ROWS[0]).content == POLITE[0]
    file.write_text(text + "- id: [", encoding="utf-8")
    assert models.get("styled").adapter == str(trained["polite"]), "the last good state goes on"
    file.write_text(text.replace("styled", "renamed"), encoding="utf-8")
    assert "styled" not in {entry.id for entry in models.entries()} and models.get("renamed").adapter == str(trained["osaka"])
    assert "styled" not in {info.id for info in models.loaded()}


def spoil_nan(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "adapter_model.safetensors")
    tensors[next(name for name in tensors if "lora_B" in name)][0, 0] = float("nan")
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def spoil_halves(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({name: tensor for name, tensor in tensors.items() if "lora_B" not in name}, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def spoil_rank(folder: Path) -> None:
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    (folder / "adapter_config.json").write_text(json.dumps(config | {"r": 4096}), encoding="utf-8")


def spoil_alpha(folder: Path) -> None:
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    (folder / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": float("nan")}), encoding="utf-8")


def spoil_sums(folder: Path) -> None:
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  adapter_model.safetensors\n", encoding="utf-8")


def spoil_base(folder: Path) -> None:
    write_card(folder, base_revision="sha256:0123456789abcdef")


def spoil_template(folder: Path) -> None:
    write_card(folder, base_revision=fingerprint(STARTER_FOLDER), template_sha256="0" * 64)


def spoil_card(folder: Path) -> None:
    (folder / "card.json").write_text("[1]", encoding="utf-8")


SPOILT = {
    spoil_nan: ("not finite (NaN)", "NaN"),
    spoil_halves: ("do not belong together", "組が正しくありません"),
    spoil_rank: ("rank is 4096; allowed: 1 to 1024", "ランクが4096"),
    spoil_alpha: ("lora_alpha=nan", "lora_alpha=nan"),
    spoil_sums: ("adapter_model.safetensors is damaged", "壊れています"),
    spoil_base: ("made on other weights of its base", "学習時の重みに戻す"),
    spoil_template: ("trained with another prompt format", "プロンプト形式が学習時"),
    spoil_card: ("card.json cannot be read", "card.jsonを読めません"),
}


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__)
def test_an_adapter_that_is_damaged_or_belongs_elsewhere_is_refused(
    settings: Settings, trained: dict[str, Path], tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    models = Models(settings)
    spoil(folder := copy(trained["osaka"], tmp_path / "spoilt"))
    models.add("spoilt", base="starter-lm", adapter=str(folder))
    with pytest.raises(ModelRefused) as refused:
        models.chat("spoilt")
    english, japanese = SPOILT[spoil]
    assert english in refused.value.text("en") and japanese in refused.value.text("ja")
    assert models.state("spoilt").status == "refused"


def test_a_card_that_fits_is_accepted_until_the_entry_gets_another_prompt_format(settings: Settings, trained: dict[str, Path], tmp_path: Path) -> None:
    models = Models(settings)
    encoder = models.turn_encoder("starter-lm")
    folder = write_card(copy(trained["osaka"], tmp_path / "good"), base_revision=fingerprint(STARTER_FOLDER), template_sha256=encoder.template_sha256)
    models.add("good", base="starter-lm", adapter=str(folder))
    assert models.chat("good").invoke(ROWS[0]).content == OSAKA[0]
    file = settings.catalogue_file
    file.write_text(file.read_text(encoding="utf-8") + "  system_prompt: 日本語で答えてください。\n", encoding="utf-8")
    with pytest.raises(ModelRefused, match="another prompt format"):
        models.chat("good")


def test_an_adapter_of_another_model_is_refused_before_it_acts_on_anything(settings: Settings, trained: dict[str, Path], tmp_path: Path) -> None:
    models = Models(settings)
    build_tiny_model(tmp_path / "tiny", layers=2)
    models.add("tiny", provider="huggingface", model=str(tmp_path / "tiny"), context_tokens=512, dtype="float32")
    models.add("odd", base="tiny", adapter=str(trained["osaka"]))
    with pytest.raises(ModelRefused, match="made for another model"):
        models.chat("odd")
    (folder := copy(trained["osaka"], tmp_path / "pickled")).joinpath("adapter_model.safetensors").rename(folder / "adapter_model.bin")
    models.add("pickled", base="starter-lm", adapter=str(folder))
    assert models.state("pickled").status == "refused"
    assert len(CITIES) == len(ROWS)

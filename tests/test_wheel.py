"""The wheel alone, in an environment of its own: no checkout, no data folder, no network, and every starter model answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
WEIGHTS = "llmops_kit/starter/weights/"
LIMIT_BYTES = 40e6
HAS_EMBEDDER = (ROOT / "llmops_kit" / "models" / "embedder.py").exists()


def run(*command: str | Path, **options: Any) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=900, **options)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built as pip builds it, without looking anywhere else."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", ROOT, "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, "--quiet", cwd=folder)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def contents(wheel: Path) -> dict[str, int]:
    """Size in bytes of every file in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {entry.filename: entry.file_size for entry in archive.infolist()}


@pytest.fixture(scope="module")
def interpreter(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment: llmops_kit from the wheel, other libraries from the environment of the tests.

    A `.pth` file inside a folder that was itself added by one is not read, so the editable install of this checkout stays out.
    """
    home = tmp_path_factory.mktemp("environment") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", home)
    python = home / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", "--quiet", wheel)
    (site,) = home.glob("lib/python*/site-packages")
    paths = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site / "libraries.pth").write_text("".join(f"{path}\n" for path in paths))
    return python


@pytest.fixture(scope="module")
def said(interpreter: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `wheel_answers.py` reports from an empty folder, with the network taken away where the machine permits that."""
    folder = tmp_path_factory.mktemp("empty")
    script = shutil.copy(Path(__file__).with_name("wheel_answers.py"), tmp_path_factory.mktemp("script"))
    apart = ["unshare", "--map-root-user", "--net"]
    permitted = shutil.which("unshare") is not None and subprocess.run([*apart, "true"], capture_output=True).returncode == 0
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    printed = run(*(apart if permitted else []), interpreter, "-I", script, folder / "workspace", cwd=folder, env=environment)
    report: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return report


def test_the_wheel_holds_the_package_with_its_prompts_and_weights_and_nothing_else(contents: dict[str, int]) -> None:
    assert all(name.startswith(("llmops_kit/", "llmops_kit-")) for name in contents)
    parts = {part for name in contents for part in Path(name).parts}
    assert not parts & {"tests", "notebooks", "data", "docs", "shared", "workspace", "__pycache__"}
    data = (".ipynb", ".gz", ".jsonl", ".csv", ".xlsx", ".sqlite", ".pyc", ".pt")
    samples = tuple(f"llmops_kit/{noun}/samples/" for noun in ("documents", "feedback", "tuning"))
    assert not [name for name in contents if name.endswith(data) and not name.startswith(samples)]
    expected = {str(file.relative_to(ROOT)) for file in (ROOT / "llmops_kit").rglob("*.py")}
    assert expected <= contents.keys()
    assert {f"llmops_kit/library/{file.name}" for file in (ROOT / "prompts").glob("*.md")} <= contents.keys()
    assert sum(name.endswith(".dist-info/licenses/LICENSE") for name in contents) == 1


def test_the_weights_keep_to_their_budget_and_carry_their_own_licence(contents: dict[str, int], wheel: Path) -> None:
    weights = {name: size for name, size in contents.items() if name.startswith(WEIGHTS)}
    models = {"starter-lm", "starter-reader", *(["starter-embed"] if HAS_EMBEDDER else [])}
    assert {Path(name).relative_to(WEIGHTS).parts[0] for name in weights} == {"LICENSE", *models}
    assert sum(weights.values()) <= LIMIT_BYTES
    assert {f"{WEIGHTS}{model}/SHA256SUMS" for model in models} <= weights.keys()
    with zipfile.ZipFile(wheel) as archive:
        licence = archive.read(f"{WEIGHTS}LICENSE").decode()
    assert "CC BY-SA 4.0" in licence or "Attribution-ShareAlike 4.0" in licence
    for source in ("JaQuAD", "NICT", "SQuADShifts"):
        assert source.lower() in licence.lower(), source


def test_the_package_comes_from_the_wheel_and_finds_its_prompts(said: dict[str, Any], interpreter: Path) -> None:
    home = interpreter.parents[1].resolve()
    assert Path(said["package"]).resolve().is_relative_to(home)
    assert Path(said["library"]).resolve().is_relative_to(home)
    assert set(said["prompts"]) >= {file.stem for file in (ROOT / "prompts").glob("*.md")}


def test_every_starter_model_answers_with_no_data_folder_and_no_network(said: dict[str, Any]) -> None:
    assert set(said["states"]) >= {"starter-lm", "starter-reader"} and set(said["states"].values()) == {"ready"}
    for language in ("ja", "en"):
        first, again = said[f"lm/{language}"]
        assert first == again and len(first) >= 8
    assert "開館時間" in said["lm/ja"][0] and "library" in said["lm/en"][0].lower()
    assert "20日" in said["reader/ja"] and "10" in said["reader/en"]
    assert said["reached"] == []


@pytest.mark.skipif(not HAS_EMBEDDER, reason="this checkout has no embedder")
def test_the_embedder_and_lexical_search_find_the_right_document(said: dict[str, Any]) -> None:
    assert len(set(said["dimensions"])) == 1
    for language, right in (("ja", 0), ("en", 1)):
        assert said[f"embedder/{language}"] == right and said[f"lexical/{language}"] == right

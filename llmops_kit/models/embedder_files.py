"""The folder of a sentence-transformers model: which parts it has, whether their files are there, and whether they are safe to load.

`modules.json` names the parts and the classes to load them with. Only the library's own classes are taken, because any
other name would be imported, and weights only as safetensors, because other formats can run code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llmops_kit.models.checksums import CHECKSUMS

MODULES = "modules.json"
_WEIGHTS = "*.safetensors"
_NEEDS = {
    "Transformer": ("config.json", _WEIGHTS),
    "StaticEmbedding": ("tokenizer.json", _WEIGHTS),
    "Pooling": ("config.json",),
    "Dense": ("config.json", _WEIGHTS),
    "LayerNorm": ("config.json", _WEIGHTS),
    "Normalize": (),
}
_FINGERPRINT_BYTES = 1 << 20


@dataclass(frozen=True)
class Fault:
    """What is wrong with a folder, in English and in Japanese."""

    en: str
    ja: str


@dataclass(frozen=True)
class Part:
    """One part of a model: the name of its class in sentence-transformers, and the folder of its files."""

    kind: str
    folder: Path


def is_starter(folder: Path) -> bool:
    """Whether `folder` was written by the recipe of starter-embed, which needs no torch to be read."""
    return (folder / CHECKSUMS).is_file() and (folder / "tokenizer.json").is_file() and not (folder / "config.json").exists()


def find_fault(folder: Path) -> Fault | None:
    """What keeps the folder of an embedder from being loaded, or None."""
    if is_starter(folder):
        return None
    if not (folder / MODULES).is_file():
        en = f"{folder} has no {MODULES}, so it is not a sentence-transformers model"
        return Fault(en, f"{folder}に{MODULES}がなく、sentence-transformersのモデルではありません")
    try:
        parts = read_parts(folder)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Fault(f"{folder / MODULES} cannot be read ({type(error).__name__})", f"{folder / MODULES}を読めません（{type(error).__name__}）")
    for part in parts:
        if part.kind not in _NEEDS:
            known = ", ".join(_NEEDS)
            en = f"it has a part “{part.kind}”, which is not loaded here; known are {known}"
            return Fault(en, f"部品「{part.kind}」には対応していません。使えるもの：{known}")
        if not part.folder.resolve().is_relative_to(folder.resolve()):
            return Fault(f"{MODULES} names a folder outside of it: {part.folder}", f"{MODULES}が外のフォルダー{part.folder}を指しています")
        if (fault := _find_missing(part)) is not None:
            return fault
    return None if parts else Fault(f"{folder / MODULES} names no part", f"{folder / MODULES}に部品がありません")


def read_parts(folder: Path) -> list[Part]:
    """The parts that modules.json names; a class that is not of sentence-transformers keeps its whole name.

    Raises: ValueError, KeyError, TypeError or AttributeError where the file is not such a list.
    """
    parts = []
    for item in json.loads((folder / MODULES).read_text(encoding="utf-8")):
        name = str(item["type"])
        kind = name.rpartition(".")[2] if name.startswith("sentence_transformers.") else name
        parts.append(Part(kind, folder / str(item["path"])))
    return parts


def find_network(folder: Path) -> Path:
    """The folder of the network itself: that of the first part, or `folder` where no modules.json names parts."""
    return read_parts(folder)[0].folder if (folder / MODULES).is_file() else folder


def find_unsafe(folder: Path) -> Fault | None:
    """What a transformers folder must not hold: code of its own, or an adapter, which names another model to load."""
    if (folder / "adapter_config.json").exists():
        en = f"{folder} is a LoRA adapter; merge it into its model and save that as safetensors"
        return Fault(en, f"{folder}はLoRAアダプターです。元のモデルに統合し、safetensorsで保存してください")
    config = folder / "config.json"
    try:
        wants_code = config.is_file() and "auto_map" in json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        return Fault(f"{config} cannot be read ({type(error).__name__})", f"{config}を読めません（{type(error).__name__}）")
    if wants_code:
        en = "it wants to run code of its own, which embedders and rerankers may not"
        return Fault(en, "独自のコードの実行が必要なモデルは、埋め込みや並べ替えには使えません")
    return None


def fingerprint(folder: Path) -> str:
    """A name for the files in a folder that no hub gave one: `sha256:` and 16 digits.

    Over the settings and vocabulary in full, and of weights the size and the first and last megabyte.
    """
    digest = hashlib.sha256()
    for file in _list_files(folder):
        size = file.stat().st_size
        digest.update(f"{file.relative_to(folder).as_posix()}:{size}".encode())
        with file.open("rb") as stream:
            if file.suffix != ".safetensors" or size <= 2 * _FINGERPRINT_BYTES:
                digest.update(stream.read())
                continue
            digest.update(stream.read(_FINGERPRINT_BYTES))
            stream.seek(size - _FINGERPRINT_BYTES)
            digest.update(stream.read())
    return f"sha256:{digest.hexdigest()[:16]}"


def _list_files(folder: Path) -> Iterator[Path]:
    folders = {folder}
    if (folder / MODULES).is_file():
        folders |= {part.folder for part in read_parts(folder) if part.folder.is_dir()}
    for each in sorted(folders):
        yield from sorted(file for file in each.iterdir() if file.suffix in (".json", ".safetensors", ".txt", ".model") and file.is_file())


def _find_missing(part: Part) -> Fault | None:
    for name in _NEEDS[part.kind]:
        if name != _WEIGHTS and not (part.folder / name).is_file():
            return Fault(f"{part.folder / name} is missing", f"{part.folder / name}がありません")
        if name == _WEIGHTS and (fault := find_missing_weights(part.folder)) is not None:
            return fault
    return None


def find_missing_weights(folder: Path) -> Fault | None:
    """Which safetensors file `folder` lacks, or None."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return Fault(f"{index} cannot be read ({type(error).__name__})", f"{index}を読めません（{type(error).__name__}）")
        missing = sorted(shard for shard in shards if not (folder / shard).is_file())
        return Fault(f"{folder / missing[0]} is missing", f"{folder / missing[0]}がありません") if missing else None
    if any(folder.glob(_WEIGHTS)):
        return None
    return Fault(
        f"{folder} holds no .safetensors weights; other formats can run code and are not loaded",
        f"{folder}に.safetensorsの重みがありません。他の形式はコードを実行できるため読み込みません",
    )

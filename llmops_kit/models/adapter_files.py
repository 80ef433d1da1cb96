"""An adapter's folder, checked before any of it acts on an answer: files, checksums, kind, ranks, shapes, finite numbers; and where it belongs.

An adapter fits one base (the exact weights) and one prompt format. Both stand in its `card.json`, which is written when it is made; on
other weights or in another format it answers garbage without any complaint, so that a mismatch is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import ModelRefused

if TYPE_CHECKING:
    import torch

CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, SUMS_FILE = "card.json", "adapter_config.json", "adapter_model.safetensors", "SHA256SUMS"
MAX_RANK = 1024
_LARGEST_JSON_BYTES = 1 << 24
_PREFIX = "base_model.model."
_PARTS = {"lora_A.weight": ("A", 1), "lora_B.weight": ("B", 0), "lora_embedding_A": ("A", None), "lora_embedding_B": ("B", None)}
_MAGNITUDE = ".lora_magnitude_vector"
_UNSHAREABLE = ("use_dora", "modules_to_save", "trainable_token_indices", "target_parameters", "alora_invocation_tokens", "layer_replication")


def read_card(folder: Path) -> dict[str, Any] | None:
    """The card in a model's folder as plain values, or None where there is none. Raises: `ModelRefused` for one that cannot be read."""
    return _read_json(folder.name, folder / CARD_FILE) if (folder / CARD_FILE).is_file() else None


def read_config(id: str, folder: Path) -> dict[str, Any]:
    """PEFT's configuration of an adapter, with ranks that are allowed. Raises: `ModelRefused`, naming the model `id`."""
    config = _read_json(id, folder / CONFIG_FILE)
    for name in ("r", "lora_alpha"):
        value = config.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            raise _refuse(id, f"{name}={value!r} in {CONFIG_FILE}; allowed: a number above 0", f"{CONFIG_FILE}の{name}={value!r}（0より大きい数が必要です）")
    ranks = [config["r"], *(config.get("rank_pattern") or {}).values()]
    if wrong := [rank for rank in ranks if not isinstance(rank, int) or not 1 <= rank <= MAX_RANK]:
        raise _refuse(id, f"its rank is {wrong[0]}; allowed: 1 to {MAX_RANK}", f"ランクが{wrong[0]}です（使える値：1～{MAX_RANK}）")
    return config


def find_unshareable(config: Mapping[str, Any]) -> str | None:
    """What in the configuration cannot be applied to single rows of a batch, such as `use_dora=True`; None for plain LoRA."""
    parts = [] if config.get("peft_type") == "LORA" else [f"peft_type={config.get('peft_type')}"]
    parts += [f"{name}={config[name]}" for name in _UNSHAREABLE if config.get(name)]
    parts += [f"bias={config['bias']}"] if config.get("bias", "none") != "none" else []
    return ", ".join(parts) or None


def check_adapter(id: str, folder: Path, model: torch.nn.Module, *, revisions: Collection[str], template_sha256: str) -> None:
    """Check the adapter in `folder` that is to go on `model`, whose weights are called `revisions` and whose prompt format has this hash.

    Raises:
        ModelRefused: a file is absent, damaged or not safetensors, it is no plain LoRA adapter, its shapes are those of another model, a
            number is not finite, or its card names other weights or another prompt format.
    """
    check_files(id, folder)
    config = read_config(id, folder)
    if (parts := find_unshareable(config)) is not None:
        en = f"{parts}; only plain LoRA adapters share a base. Take it in with kit.tuning.add, or merge it into its base"
        raise _refuse(id, en, f"{parts}：ベースを共有できるのは通常のLoRAだけです。kit.tuning.addで取り込むか、ベースに結合してください")
    check_origin(id, read_card(folder), revisions=revisions, template_sha256=template_sha256)
    check_tensors(id, folder, model)


def check_files(id: str, folder: Path) -> None:
    """Refuse a folder that lacks a file, has weights that can run code, or files other than its SHA256SUMS says."""
    if not (folder / WEIGHTS_FILE).is_file():
        other = next((file.name for pattern in ("*.bin", "*.pt", "*.pth", "*.pkl", "*.zip") for file in folder.glob(pattern)), None)
        found = f" ({other})" if other else ""
        en = f"it has no {WEIGHTS_FILE}{found}; other formats can run code and are not loaded. Save it again as safetensors"
        raise _refuse(id, en, f"{WEIGHTS_FILE}がありません{found}。他の形式はコードを実行できるため読み込みません。safetensorsで保存し直してください")
    check_sums(id, folder)


def check_sums(id: str, folder: Path) -> None:
    """Compare the files of a model's folder with its SHA256SUMS, where it has one. Raises: `ModelRefused` for one that is damaged or absent."""
    from llmops_kit.models.loading import hash_file

    sums = folder / SUMS_FILE
    if not sums.is_file():
        return
    for line in sums.read_text(encoding="utf-8").splitlines():
        wanted, _, name = line.partition(" ")
        file = folder / Path(name.lstrip(" *")).name
        found = hash_file(file) if file.is_file() else None
        if line.strip() and found != wanted:
            lost = found is None
            en = f"the file {file.name} {'is missing' if lost else 'is damaged (its SHA-256 differs)'}. Put it back, or tune again"
            ja = f"ファイル{file.name}が{'ありません' if lost else '壊れています（SHA-256が違います）'}。元に戻すか、チューニングし直してください"
            raise _refuse(id, en, ja)


def check_origin(id: str, card: Mapping[str, Any] | None, *, revisions: Collection[str], template_sha256: str) -> None:
    """Refuse weights or a prompt format that are not those of the card; what a card does not say is not checked."""
    card = card or {}
    made_on = {str(card[name]) for name in ("base_revision", "base_fingerprint") if card.get(name)}
    if made_on and not made_on & set(revisions):
        one, other = sorted(made_on)[0], ", ".join(sorted(revisions))
        en = f"it was made on other weights of its base ({one}) than those here ({other}). Put those back, or tune again on these"
        raise _refuse(id, en, f"ベースの重みが学習時（{one}）と違います（現在：{other}）。学習時の重みに戻すか、今の重みでチューニングし直してください")
    written = card.get("template_sha256")
    if written and written != template_sha256:
        one, other = str(written)[:12], template_sha256[:12]
        en = (
            f"it was trained with another prompt format (hash {one}) than its entry has now ({other}). "
            "Put prompt_style, system_prompt and the chat template back as they were, or tune again"
        )
        ja = (
            f"プロンプト形式が学習時（ハッシュ{one}）と違います（現在：{other}）。"
            "prompt_style、system_prompt、チャットテンプレートを元に戻すか、チューニングし直してください"
        )
        raise _refuse(id, en, ja)


def check_tensors(id: str, folder: Path, model: torch.nn.Module | None, *, scaled: bool = False) -> dict[str, int]:
    """The rank by layer, after every tensor was found finite, in a pair, and (with `model`) of the shape of the layer it goes on.

    `scaled`: DoRA's vectors of magnitudes may be there as well. Raises: `ModelRefused`, naming the tensor.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    ranks: dict[str, dict[str, int]] = {}
    try:
        with safe_open(folder / WEIGHTS_FILE, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - it is no mapping
                tensor = tensors.get_tensor(name)
                if not bool(torch.isfinite(tensor).all()):
                    en = f"the tensor {name} holds values that are not finite (NaN). Its training diverged: tune again with a lower learning rate"
                    raise _refuse(id, en, f"テンソル{name}に有限でない値（NaN）があります。学習が発散しています。学習率を下げてチューニングし直してください")
                if scaled and _MAGNITUDE in name:
                    continue
                layer, part = _read_name(id, name)
                if tensor.dim() != 2:
                    raise _refuse(id, f"the tensor {name} has the shape {tuple(tensor.shape)}", f"テンソル{name}の形{tuple(tensor.shape)}が正しくありません")
                rank = int(tensor.shape[0 if _PARTS[part][0] == "A" else 1])
                ranks.setdefault(layer, {})[_PARTS[part][0]] = rank
                if model is not None:
                    _check_shape(id, name, layer, part, tuple(tensor.shape), model)
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise _refuse(id, f"{WEIGHTS_FILE} cannot be read: {reason}", f"{WEIGHTS_FILE}を読めません：{reason}") from error
    for layer, pair in ranks.items():
        if set(pair) != {"A", "B"} or pair["A"] != pair["B"] or not 1 <= pair["A"] <= MAX_RANK:
            raise _refuse(id, f"the matrices of {layer} do not belong together: {pair}", f"{layer}の行列の組が正しくありません：{pair}")
    if not ranks:
        raise _refuse(id, f"{WEIGHTS_FILE} holds no LoRA matrices", f"{WEIGHTS_FILE}にLoRAの行列がありません")
    return {layer: pair["A"] for layer, pair in ranks.items()}


def _read_name(id: str, name: str) -> tuple[str, str]:
    """The layer and the part (`lora_A.weight`) of a tensor's name."""
    part = next((part for part in _PARTS if name.endswith(f".{part}")), None)
    if part is None:
        raise _refuse(id, f"the tensor {name} is none of a plain LoRA adapter", f"テンソル{name}は通常のLoRAのものではありません")
    return name.removeprefix(_PREFIX).removesuffix(f".{part}"), part


def _check_shape(id: str, name: str, layer: str, part: str, shape: tuple[int, ...], model: torch.nn.Module) -> None:
    try:
        module: Any = model.get_submodule(layer)
    except AttributeError:
        en, ja = f"its base has no layer {layer}. It was made for another model", f"ベースに{layer}という層がありません。別のモデル用のアダプターです"
        raise _refuse(id, en, ja) from None
    wanted = {"A": getattr(module, "in_features", None), "B": getattr(module, "out_features", None)}
    side, place = _PARTS[part]
    if place is not None and wanted[side] is not None and shape[place] != wanted[side]:
        en = f"the tensor {name} has the shape {shape}, but its base needs {wanted[side]} there. It was made for another model"
        raise _refuse(id, en, f"テンソル{name}の形{shape}がベース（{wanted[side]}）に合いません。別のモデル用のアダプターです")


def _read_json(id: str, file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _LARGEST_JSON_BYTES:
            raise ValueError("too large")
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("no object")
    except (OSError, ValueError, RecursionError) as error:
        raise _refuse(id, f"{file.name} cannot be read: {error}", f"{file.name}を読めません：{error}") from error
    return found


def _refuse(id: str, en: str, ja: str) -> ModelRefused:
    return ModelRefused(model=id, reason={"en": en, "ja": ja})

"""Loading a local model: safetensors only, from one folder, checked before it answers.

Nothing here reaches the network. Code that comes with a model runs only where the entry asks for it and the
administrator allowed it (`LLMOPS_ALLOW_REMOTE_CODE`).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import KitError, ModelRefused
from llmops_kit.models.catalogue import ModelEntry
from llmops_kit.models.chat_template import apply_template
from llmops_kit.models.control_tokens import encode_parts, find_control_tokens, mark_messages
from llmops_kit.models.loading_progress import watch_tensors
from llmops_kit.models.prompt_style import prepare_turns, render_prompt
from llmops_kit.models.readiness import has_fast_bfloat16
from llmops_kit.models.tokenizer import compare_tokenizer, load_tokenizer, refuse_differences
from llmops_kit.settings import Settings
from llmops_kit.types import Message

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SUMS_FILE = "SHA256SUMS"
_FINGERPRINT_BYTES = 1 << 20
ONE_AT_A_TIME = threading.RLock()
"""For whoever imports parts of transformers or loads a model: of two threads at once, one finds a half-made module, or its tied weights "missing"."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory with its tokenizer. `revision` names the exact weights; `memory_mb` is what they take."""

    entry: ModelEntry
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    revision: str
    device: str
    dtype: str
    memory_mb: float

    def render(self, messages: Sequence[Message]) -> list[int]:
        """The token ids of a conversation in the model's prompt style. Control tokens inside a message are read as plain text.

        Raises:
            ModelRefused: the model's own chat template refuses the conversation, or an id lies outside its vocabulary.
        """
        tokens = [token for token in find_control_tokens(self.tokenizer) if token != self.entry.newline_token]
        marked, mark = mark_messages(tuple(messages), tokens)
        text = self.render_text(marked)
        ids = encode_parts(self.tokenizer, text.split(mark) if mark else [text], add_special_tokens=self.entry.add_special_tokens)
        rows = self.model.get_input_embeddings().num_embeddings
        if outside := [number for number in ids if number >= rows]:
            raise _refused(
                self.entry,
                en=f"token {self.tokenizer.convert_ids_to_tokens(outside[0])!r} has id {outside[0]}, beyond the {rows} of the model",
                ja=f"トークン{self.tokenizer.convert_ids_to_tokens(outside[0])!r}のid {outside[0]}がモデルの{rows}語の範囲外です",
            )
        return ids

    def render_text(self, messages: Sequence[Message]) -> str:
        """The rendered prompt as text."""
        turns = prepare_turns(self.entry, messages)
        if self.entry.prompt_style != "chat_template":
            return render_prompt(self.entry.prompt_style, turns, newline_token=self.entry.newline_token)
        return apply_template(self.entry, self.tokenizer, turns)


def load_model(
    entry: ModelEntry,
    folder: Path,
    settings: Settings,
    *,
    revision: str | None = None,
    progress: Callable[[float], None] | None = None,
    device: str | None = None,
    quantize: bool = False,
) -> LoadedModel:
    """Load the model in `folder` and check it: files, tokenizer, shapes, finite weights.

    `revision` is the commit the folder holds; without it the files' own fingerprint stands for it. `progress` is told
    the share of the tensors read, from 0 to 1. `device` (`cuda:1`, …) goes before what `choose_device` finds; `quantize` puts the weights
    of linear layers into four bits (bitsandbytes' NF4 with double quantisation, as QLoRA has it), on CUDA only.

    Raises:
        ModelRefused: a checksum, the tokenizer self-test or the weights are wrong, there are no safetensors, or the model
            wants to run code of its own.
    """
    with ONE_AT_A_TIME:
        return _load(entry, folder, settings, revision, progress, device, quantize)


def _load(
    entry: ModelEntry,
    folder: Path,
    settings: Settings,
    revision: str | None,
    progress: Callable[[float], None] | None,
    wanted: str | None,
    quantize: bool,
) -> LoadedModel:
    import torch

    # Here and in every thread but the engine's: a second pool of OpenMP threads makes more threads than cores, after which
    # none of them waits actively any more. Measured on two cores: 15 ms a step of 40 rows became 27 ms.
    torch.set_num_threads(1)
    if entry.provider == "starter":
        verify_checksums(entry, folder)
    _check_files(entry, folder, settings)
    tokenizer = load_tokenizer(entry, folder)
    refuse_differences(entry, compare_tokenizer(tokenizer, entry, folder))
    device = wanted or choose_device()
    dtype = choose_dtype(entry, device.partition(":")[0])
    with watch_tensors(progress):
        model = _read_weights(entry, folder, settings, dtype=dtype, **(_four_bits(device, dtype) if quantize else {}))
    _check_finite(entry, model)
    model = (model if quantize else model.to(device)).eval()  # type: ignore[arg-type, unused-ignore]
    size_mb = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters()) / 1e6
    return LoadedModel(
        entry=entry, model=model, tokenizer=tokenizer, revision=revision or fingerprint(folder), device=device, dtype=dtype, memory_mb=size_mb
    )


def verify_checksums(entry: ModelEntry, folder: Path) -> None:
    """Compare every file named in the folder's SHA256SUMS.

    Raises:
        ModelRefused: a file is missing or differs; names it with both checksums. Also where there is no list.
    """
    sums = folder / SUMS_FILE
    if not sums.is_file():
        raise _refused(entry, en=f"{sums} is missing; install the package again", ja=f"{sums}がありません。パッケージを入れ直してください")
    for line in sums.read_text(encoding="utf-8").splitlines():
        if not line.strip():
            continue
        wanted, _, name = line.partition(" ")
        name = name.lstrip(" *")
        file = folder / name
        found = hash_file(file) if file.is_file() else "missing"
        if found != wanted:
            raise _refused(
                entry,
                en=f"the file {name} is damaged: its SHA-256 should be {wanted} but is {found}. Install the package again",
                ja=f"ファイル{name}が壊れています：SHA-256は{wanted}のはずですが{found}です。パッケージを入れ直してください",
            )


def hash_file(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(folder: Path) -> str:
    """A name for the weights in a folder that no hub gave one: `sha256:` and 16 digits.

    Over the checksum list where there is one, else over configuration, sizes and the first and last megabyte of each
    weight file, so that a folder of many gigabytes does not have to be read in full.
    """
    digest = hashlib.sha256()
    if (folder / SUMS_FILE).is_file():
        digest.update((folder / SUMS_FILE).read_bytes())
        return f"sha256:{digest.hexdigest()[:16]}"
    digest.update((folder / "config.json").read_bytes())
    for file in sorted(folder.glob("*.safetensors")):
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(_FINGERPRINT_BYTES))
            stream.seek(max(0, size - _FINGERPRINT_BYTES))
            digest.update(stream.read())
    return f"sha256:{digest.hexdigest()[:16]}"


def choose_device() -> str:
    """`cuda` where there is such an accelerator, `mps` on an Apple one, else `cpu`."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def choose_dtype(entry: ModelEntry, device: str) -> str:
    """The number format: the entry's, else bfloat16 where the hardware is fast at it, else float16 (GPU) or float32 (CPU).

    A CPU without bfloat16 instructions computes it some thirty times slower than float32.
    """
    import torch

    if entry.dtype != "auto":
        return entry.dtype
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    if device == "mps":
        return "float16"
    return "bfloat16" if has_fast_bfloat16() else "float32"


def _check_files(entry: ModelEntry, folder: Path, settings: Settings) -> None:
    config = folder / "config.json"
    if not config.is_file():
        raise _refused(entry, en=f"{folder} holds no config.json", ja=f"{folder}にconfig.jsonがありません")
    if not any(folder.glob("*.safetensors")):
        raise _refused(
            entry,
            en=f"{folder} holds no .safetensors weights; other formats can run code and are not loaded",
            ja=f"{folder}に.safetensorsの重みがありません。他の形式はコードを実行できるため読み込みません",
        )
    wants_code = "auto_map" in json.loads(config.read_text(encoding="utf-8"))
    if (wants_code and not _may_run_code(entry, settings)) or (entry.trust_remote_code and not settings.allow_remote_code):
        raise _refused(
            entry,
            en="it wants to run code of its own; the administrator can allow that with LLMOPS_ALLOW_REMOTE_CODE=1 and trust_remote_code in its entry",
            ja="独自のコードの実行が必要です。管理者はLLMOPS_ALLOW_REMOTE_CODE=1とエントリのtrust_remote_codeで許可できます",
        )


def _may_run_code(entry: ModelEntry, settings: Settings) -> bool:
    return entry.trust_remote_code and settings.allow_remote_code


def _read_weights(entry: ModelEntry, folder: Path, settings: Settings, *, dtype: str, **further: Any) -> PreTrainedModel:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as bars

    bars.disable_progress_bar()
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=_may_run_code(entry, settings),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are named in the report, and refused below
            **further,
        )
    except KitError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise _refused(entry, en=f"its weights could not be read: {reason}", ja=f"重みを読み込めません：{reason}") from error
    wrong = [_tensor_name(item) for kind in ("missing_keys", "mismatched_keys") for item in sorted(report.get(kind) or (), key=str)]
    if wrong:
        shown = ", ".join(wrong[:3]) + (" …" if len(wrong) > 3 else "")
        raise _refused(
            entry,
            en=f"{len(wrong)} tensors are missing or of the wrong shape: {shown}",
            ja=f"{len(wrong)}個のテンソルが無いか形が違います：{shown}",
        )
    return model


def _four_bits(device: str, dtype: str) -> dict[str, Any]:
    import torch
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=getattr(torch, dtype)
    )
    return {"quantization_config": config, "device_map": {"": device}}


def _tensor_name(item: str | tuple[str, object, object]) -> str:
    """A tensor of the load report: its name, and for a mismatch the shape in the file and the shape it should have."""
    return item if isinstance(item, str) else f"{item[0]} {tuple(item[1])} ≠ {tuple(item[2])}"  # type: ignore[arg-type]


def _check_finite(entry: ModelEntry, model: torch.nn.Module) -> None:
    import torch

    for name, tensor in model.named_parameters():
        if not bool(torch.isfinite(tensor.detach().sum(dtype=torch.float32))) and not bool(torch.isfinite(tensor).all()):
            raise _refused(entry, en=f"the tensor {name} holds values that are not finite (NaN)", ja=f"テンソル{name}に有限でない値（NaN）があります")


def _refused(entry: ModelEntry, *, en: str, ja: str) -> ModelRefused:
    return ModelRefused(model=entry.id, reason={"en": en, "ja": ja})

"""Whether a model can answer here and now, and if not, what is missing: a download, a key, memory, or trust."""

from __future__ import annotations

import json
import math
import platform
import re
import shutil
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from llmops_kit.errors import ModelNotReady
from llmops_kit.models.catalogue import ModelEntry

Status = Literal["ready", "needs_download", "downloading", "needs_key", "too_large", "loading", "refused"]
GIGABYTE = 1e9
_LONGEST_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class ModelState:
    """The state of one model. Sizes are megabytes, memory gigabytes (10⁹ bytes); only the facts of its `status` are set.

    `share` is how much of a model that is being loaded is in memory already, from 0 to 1.

    `reason` holds a sentence per language where the status alone does not say enough.
    """

    status: Status
    size_mb: float | None = None
    done_mb: float | None = None
    seconds_left: float | None = None
    share: float | None = None
    env: str | None = None
    needs_gb: float | None = None
    has_gb: float | None = None
    reason: dict[str, str] = field(default_factory=dict)

    @property
    def is_ready(self) -> bool:
        """Whether a call would be answered."""
        return self.status == "ready"

    def text(self, language: str = "en") -> str:
        """The state as one short sentence in `language` (`ja`, else English)."""
        japanese = language.startswith("ja")
        sentence = _SENTENCES[self.status]["ja" if japanese else "en"].format(
            size=format_size(self.size_mb, language),
            done=format_size(self.done_mb, language),
            left=_format_left(self.seconds_left, language),
            share=f"{self.share or 0:.0%}",
            env=self.env,
            needs=f"{self.needs_gb or 0:.1f}",
            has=f"{self.has_gb or 0:.1f}",
        )
        reason = self.reason.get("ja" if japanese else "en", "")
        return f"{sentence}{'：' if japanese else ': '}{reason}" if reason else sentence


_SENTENCES = {
    "ready": {"en": "Ready", "ja": "使えます"},
    "needs_download": {"en": "Needs a download ({size})", "ja": "ダウンロードが必要です（{size}）"},
    "downloading": {"en": "Downloading {done} of {size}{left}", "ja": "ダウンロード中 {done}／{size}{left}"},
    "needs_key": {"en": "Needs a key ({env})", "ja": "キーが必要です（{env}）"},
    "too_large": {"en": "Too large for this machine (needs {needs} GB, has {has} GB)", "ja": "このマシンには大きすぎます（必要{needs} GB、空き{has} GB）"},
    "loading": {"en": "Loading into memory ({share})", "ja": "メモリーに読み込み中です（{share}）"},
    "refused": {"en": "Refused", "ja": "使えません"},
}


@dataclass(frozen=True)
class Machine:
    """What this machine has for models: memory free for them in gigabytes, where they run, and in which format."""

    memory_free_gb: float
    device: str
    dtype: str


def measure_machine() -> Machine:
    """Look at memory, accelerator and processor. Memory is that of the accelerator where there is one.

    torch is asked only where it is loaded already or an accelerator seems to be there, because importing it takes seconds.
    """
    free_gb = free_memory_gb()
    if "torch" in sys.modules or shutil.which("nvidia-smi") is not None or _is_apple():
        import torch

        if torch.cuda.is_available():
            return Machine(torch.cuda.mem_get_info()[0] / GIGABYTE, "cuda", "bfloat16" if torch.cuda.is_bf16_supported() else "float16")
        if torch.backends.mps.is_available():
            return Machine(free_gb, "mps", "float16")
    return Machine(free_gb, "cpu", "bfloat16" if has_fast_bfloat16() else "float32")


def free_memory_gb() -> float:
    """Main memory that programs may still take, in gigabytes; inside a container its limit counts."""
    import psutil

    free = float(psutil.virtual_memory().available)
    limit = _read_number(Path("/sys/fs/cgroup/memory.max"))
    if limit is not None:
        used = _read_number(Path("/sys/fs/cgroup/memory.current")) or 0
        free = min(free, max(0.0, limit - used))
    return free / GIGABYTE


def free_disk_mb(folder: Path) -> float:
    """Megabytes free where `folder` is or will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free / 1e6


@cache
def has_fast_bfloat16() -> bool:
    """Whether the processor has bfloat16 instructions; without them float32 is far faster. Known on Linux only, else False."""
    flags = Path("/proc/cpuinfo")
    return bool(re.search(r"\b(amx_bf16|avx512_bf16)\b", flags.read_text(encoding="utf-8", errors="replace"))) if flags.is_file() else False


def choose_number_format(entry: ModelEntry, machine: Machine) -> str:
    """The number format the model would be loaded in here: the entry's, else the machine's; embedders and rerankers always in float32."""
    if not entry.can_chat:
        return "float32"
    return entry.dtype if entry.dtype != "auto" else machine.dtype


def check_fit(entry: ModelEntry, machine: Machine, *, params_b: float | None = None) -> ModelState | None:
    """`too_large` where the model does not fit the free memory, else None. `params_b`: its parameters, if counted."""
    needs_gb = entry.memory_gb(choose_number_format(entry, machine), params_b=params_b)
    if needs_gb is None or needs_gb <= machine.memory_free_gb:
        return None
    return ModelState("too_large", needs_gb=needs_gb, has_gb=machine.memory_free_gb)


def count_parameters(folder: Path) -> float | None:
    """Parameters in the safetensors files of a folder, in thousand millions, from their headers alone; None without any.

    A file begins with the length of its header (8 bytes, little-endian) and the header, JSON with each tensor's shape.
    A header that cannot be read counts as nothing here: loading the model refuses it with a reason.
    """
    count = 0
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = stream.read(length) if length <= _LONGEST_HEADER_BYTES else b""
        try:
            tensors = json.loads(header)
            count += sum(math.prod(tensor["shape"]) for name, tensor in tensors.items() if name != "__metadata__")
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return count / 1e9 if count else None


def find_missing_adapter_file(folder: Path) -> Path | None:
    """The first file that a LoRA adapter folder lacks, or None. Weights in another format than safetensors count as none."""
    return next((file for name in ("adapter_config.json", "adapter_model.safetensors") if not (file := folder / name).is_file()), None)


def measure_folder(folder: Path) -> float:
    """Megabytes of the files in a folder."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / 1e6


def check_versions(entry: ModelEntry) -> ModelState | None:
    """`refused` where the entry asks for another version of transformers, else None."""
    if entry.requires_transformers is None:
        return None
    from importlib.metadata import version

    from packaging.specifiers import SpecifierSet

    have = version("transformers")
    if SpecifierSet(entry.requires_transformers).contains(have):
        return None
    return ModelState(
        "refused",
        reason={
            "en": f"it needs transformers {entry.requires_transformers}; {have} is installed",
            "ja": f"transformers {entry.requires_transformers}が必要です（現在は{have}）",
        },
    )


def not_ready(entry: ModelEntry, state: ModelState) -> ModelNotReady:
    """The error of a model that cannot answer yet, with what it waits for and the next step."""
    advice = ModelNotReady.next_step
    if not entry.can_chat:
        embeds = entry.kind == "embedding"
        en = f"Open the model panel, or {'choose starter-embed' if embeds else 'search without a reranker'}."
        advice = {"en": en, "ja": f"モデルパネルを開くか、{'starter-embedを選んで' if embeds else '並べ替えなしで検索して'}ください。"}
    return ModelNotReady(
        en=f"The model “{entry.id}” is not ready: {state.text('en')}. {advice['en']}",
        ja=f"モデル「{entry.id}」はまだ使えません：{state.text('ja')}。{advice['ja']}",
        model=entry.id,
        reason=state.status,
    )


def format_size(size_mb: float | None, language: str = "en") -> str:
    """A size for people: `512 MB`, `7.2 GB`, or that it is unknown."""
    if size_mb is None:
        return "サイズ不明" if language.startswith("ja") else "size unknown"
    return f"{size_mb / 1000:.1f} GB" if size_mb >= 1000 else f"{size_mb:.0f} MB" if size_mb >= 10 else f"{size_mb:.1f} MB"


def _format_left(seconds: float | None, language: str) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    if language.startswith("ja"):
        return f"、残り{minutes}分{rest:02d}秒"
    return f", {minutes}:{rest:02d} left"


def _read_number(file: Path) -> float | None:
    try:
        return float(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _is_apple() -> bool:
    return sys.platform == "darwin" and platform.machine() == "arm64"

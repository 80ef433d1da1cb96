"""How a job ended, in a word and a calm sentence in both languages. The whole of a fault stands in the log."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from llmops_kit.errors import Cancelled, Diverged, KitError
from llmops_kit.types import JobState

_SENTENCES: Mapping[str, tuple[JobState, str, str]] = {
    "cancelled": ("cancelled", "Stopped by request.", "依頼により停止しました。"),
    "unresponsive": (
        "cancelled",
        "Stopped by request. It did not stop by itself within {grace_s:g} seconds and was ended; its last checkpoint is kept.",
        "依頼により停止しました。{grace_s:g}秒以内に自分では止まらなかったため終了させました。最後のチェックポイントは残っています。",
    ),
    "killed": (
        "interrupted",
        "Its process was killed from outside. It can be resumed from its last checkpoint.",
        "プロセスが外部から強制終了されました。最後のチェックポイントから再開できます。",
    ),
    "terminated": (
        "interrupted",
        "The machine asked its process to end, and it stopped in order. It can be resumed from its last checkpoint.",
        "マシンからの終了要求により、正常に停止しました。最後のチェックポイントから再開できます。",
    ),
    "power_cut": (
        "interrupted",
        "The machine was restarted while it ran. It can be resumed from its last checkpoint.",
        "実行中にマシンが再起動されました。最後のチェックポイントから再開できます。",
    ),
    "lost": (
        "interrupted",
        "Nothing was heard from the machine it ran on ({where}) for {silent_s:.0f} seconds. It can be resumed from its last checkpoint.",
        "実行先のマシン（{where}）から{silent_s:.0f}秒間応答がありません。最後のチェックポイントから再開できます。",
    ),
    "out_of_memory": (
        "failed",
        "The memory was not enough. Choose a smaller batch_tokens or max_tokens, turn checkpointing on, or take a smaller base, then start again.",
        "メモリーが足りませんでした。batch_tokensやmax_tokensを小さくするか、checkpointingを有効にするか、小さいベースモデルを選んで、もう一度実行してください。",
    ),
    "disk_full": (
        "failed",
        "The disk is full. The last complete checkpoint is kept: free some space, then resume.",
        "ディスクの空きがなくなりました。最後の完全なチェックポイントは残っています。空きを作ってから再開してください。",
    ),
    "diverged": ("failed", "{en}", "{ja}"),
    "refused": ("failed", "{en}", "{ja}"),
    "fault": (
        "failed",
        "It stopped because of a fault in the program ({en}). The log says more; it can be resumed.",
        "プログラムの不具合で停止しました（{ja}）。詳しくはログにあります。再開できます。",
    ),
}
CODES = tuple(_SENTENCES)
_FIRST_EXIT = 80
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_WORDS = ("no space left on device", "disk is full", "disk quota exceeded", "file too large", "could not extend file")
_UNWRITTEN_WORDS = ("failed writing", "file write failed")  # torch does not say why
_MEMORY_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "unable to allocate", "bad_alloc")
_ALMOST_FULL_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Ending:
    """The state a job ends in, and why."""

    state: JobState
    code: str
    en: str
    ja: str

    @property
    def reason(self) -> dict[str, str]:
        """What stands in the row."""
        return {"code": self.code, "en": self.en, "ja": self.ja}

    @property
    def exit_code(self) -> int:
        """What the process answers where the row cannot be written."""
        return _FIRST_EXIT + CODES.index(self.code)


def ending(code: str, *, state: JobState | None = None, **facts: object) -> Ending:
    """The ending of this code, its sentence filled in; `state` where it is another than usual."""
    usual, en, ja = _SENTENCES[code]
    return Ending(state or usual, code, en.format(**facts), ja.format(**facts))


def ending_of(fault: BaseException, folder: Path) -> Ending:
    """What `fault` means for the job whose files are in `folder`."""
    chain = [*_chain(fault)]
    if any(_is_memory(each) for each in chain):
        return ending("out_of_memory")
    if any(_is_disk(each, folder) for each in chain):
        return ending("disk_full")
    if isinstance(fault, Cancelled):
        return ending("cancelled")
    if isinstance(fault, KitError):
        return ending("diverged" if isinstance(fault, Diverged) else "refused", en=fault.text("en"), ja=fault.text("ja"))
    return ending("fault", en=type(fault).__name__, ja=type(fault).__name__)


def ending_of_exit(code: int | None, *, memory: bool) -> Ending:
    """What a process that left its row as it was ended of, by its exit code (None: unknown) and whether the kernel ran out of memory meanwhile."""
    if code is not None and _FIRST_EXIT <= code < _FIRST_EXIT + len(CODES):
        name = CODES[code - _FIRST_EXIT]
        if name not in ("diverged", "refused", "fault", "unresponsive", "lost"):
            return ending(name)
    if code is None or code in (-9, 128 + 9):
        return ending("out_of_memory", state="interrupted") if memory else ending("killed")
    if code in (-15, 128 + 15):
        return ending("killed")
    en, ja = (f"signal {-code}", f"シグナル{-code}") if code < 0 else (f"exit code {code}", f"終了コード{code}")
    return ending("fault", en=en, ja=ja)


def is_disk_full(fault: BaseException) -> bool:
    """Whether what failed is that nothing more fits on the disk."""
    return any(_says_full(each) for each in _chain(fault))


def _chain(fault: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while fault is not None and id(fault) not in seen:
        seen.add(id(fault))
        yield fault
        fault = fault.__cause__ or fault.__context__


def _is_memory(fault: BaseException) -> bool:
    if isinstance(fault, MemoryError) or type(fault).__name__ == "OutOfMemoryError" or (isinstance(fault, OSError) and fault.errno == errno.ENOMEM):
        return True
    return isinstance(fault, RuntimeError) and any(word in str(fault).lower() for word in _MEMORY_WORDS)


def _is_disk(fault: BaseException, folder: Path) -> bool:
    unwritten = any(word in str(fault).lower() for word in _UNWRITTEN_WORDS)
    return _says_full(fault) or (unwritten and shutil.disk_usage(folder).free < _ALMOST_FULL_BYTES)


def _says_full(fault: BaseException) -> bool:
    return (isinstance(fault, OSError) and fault.errno in _FULL) or any(word in str(fault).lower() for word in _FULL_WORDS)

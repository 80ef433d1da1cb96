"""Downloads from the model hub: safetensors and tokenizer files of one pinned commit, resumable and cancellable.

Files land in the hub client's own cache layout, so other tools find them. The client itself throws a broken download
away; here the part stays beside its blob as `<hash>.part` and the next try asks for the rest of it (HTTP Range).
Every file is compared with the hub's checksum before it counts.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Literal

from llmops_kit.errors import Cancelled, ModelRefused
from llmops_kit.models.catalogue import ModelEntry
from llmops_kit.models.hub import TOKEN_ENV, RemoteFile, list_files, not_ready, storage_folder, translate_errors
from llmops_kit.models.readiness import format_size, free_disk_mb
from llmops_kit.progress import show_progress
from llmops_kit.settings import Settings, secret

if TYPE_CHECKING:
    import httpx

_CHUNK_BYTES = 1 << 18
_SPARE_MB = 200.0
_TRIES = 5
_STALL_S = 10.0
_RATE_WINDOW_S = 10.0
_REPORT_EVERY_S = 0.2


@dataclass(frozen=True)
class DownloadProgress:
    """How far a download is: megabytes done of all, seconds left (None while unknown), and the file in work."""

    done_mb: float
    total_mb: float
    seconds_left: float | None
    file: str


Report = Callable[[DownloadProgress], object]


@contextmanager
def report_to(progress: Report | Literal[False] | None) -> Iterator[Report]:
    """What a download reports to: `progress`, or the kit's own bar where it is None, or nothing where it is False."""
    if progress is not None and progress is not False:
        yield progress
        return
    with show_progress(progress, "B") as show:
        yield lambda done: show(round(done.done_mb * 1e6), round(done.total_mb * 1e6), done.seconds_left)


def download_model(
    entry: ModelEntry, settings: Settings, *, revision: str | None, progress: Report | None = None, cancel: Event | None = None
) -> tuple[str, Path]:
    """Download `entry` at `revision` (default: the newest commit) and give the commit and its folder.

    `progress` is called a few times a second. Setting `cancel` stops it; what was loaded is kept and the next call
    goes on from there.

    Raises:
        Cancelled: `cancel` was set.
        ModelNotReady: downloads are switched off, the hub cannot be reached, refuses, or the disk is too small.
        ModelRefused: the commit holds no safetensors, or a file does not have its checksum.
    """
    if settings.offline:
        raise not_ready(
            entry,
            en="downloads are switched off; start with LLMOPS_OFFLINE=0 to allow them",
            ja="ダウンロードが無効です。許可するにはLLMOPS_OFFLINE=0で起動してください",
        )
    with translate_errors(entry):
        commit, files = list_files(entry, settings, revision)
        download = _Download(entry, settings, commit, files=files, report=progress, cancel=cancel or Event())
        return commit, download.run()


class _Download:
    """One download at work: which bytes are there, how fast they come, and whether to stop."""

    def __init__(self, entry: ModelEntry, settings: Settings, commit: str, *, files: list[RemoteFile], report: Report | None, cancel: Event) -> None:
        self._entry, self._settings, self._commit, self._files = entry, settings, commit, files
        self._report, self._cancel = report, cancel
        self._storage = storage_folder(entry, settings)
        self._blobs = self._storage / "blobs"
        self._done = sum(self._have(file) for file in files)
        self._total = sum(file.size for file in files)
        self._marks: deque[tuple[float, int]] = deque([(time.monotonic(), self._done)])
        self._reported_at = 0.0

    def run(self) -> Path:
        """Load every file and give the snapshot folder."""
        self._check_disk()
        self._blobs.mkdir(parents=True, exist_ok=True)
        for file in self._files:
            self._check_cancel()
            if not (self._blobs / file.key).is_file():
                self._fetch(file)
            self._link(file)
            self._tell(file, force=True)
        return self._storage / "snapshots" / self._commit

    def _have(self, file: RemoteFile) -> int:
        """Bytes of `file` that are on disk already."""
        blob, part = self._blobs / file.key, self._part(file)
        return file.size if blob.is_file() else part.stat().st_size if part.is_file() else 0

    def _part(self, file: RemoteFile) -> Path:
        return self._blobs / f"{file.key}.part"

    def _check_disk(self) -> None:
        missing_mb, free_mb = (self._total - self._done) / 1e6, free_disk_mb(self._storage)
        if missing_mb and missing_mb + _SPARE_MB > free_mb:
            needs, has = format_size(missing_mb + _SPARE_MB), format_size(free_mb)
            raise not_ready(
                self._entry,
                en=f"the disk is too small: {needs} needed, {has} free at {self._storage.parent}",
                ja=f"ディスクの空きが足りません：必要{needs}、空き{has}（{self._storage.parent}）",
            )

    def _check_cancel(self) -> None:
        if self._cancel.is_set():
            raise Cancelled()

    def _fetch(self, file: RemoteFile) -> None:
        """Load the rest of one file, over broken connections too, then check and keep it."""
        import httpx

        tries = 0
        while self._have(file) < file.size or not self._part(file).is_file():
            before = self._have(file)
            try:
                self._stream_rest(file, before)
            except httpx.TransportError:
                tries = 1 if self._have(file) > before else tries + 1
                if tries >= _TRIES:
                    raise
                if self._cancel.wait(min(2.0 ** (tries - 1), _STALL_S)):
                    raise Cancelled() from None
        self._verify(file)
        self._part(file).replace(self._blobs / file.key)

    def _stream_rest(self, file: RemoteFile, start: int) -> None:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils._headers import build_hf_headers
        from huggingface_hub.utils._http import get_session, hf_raise_for_status

        url = hf_hub_url(self._entry.model, file.name, revision=self._commit, endpoint=self._settings.hub_endpoint)
        headers = build_hf_headers(token=secret(TOKEN_ENV) or False)
        headers["Accept-Encoding"] = "identity"  # a compressed answer has other byte positions
        if start:
            headers["Range"] = f"bytes={start}-"
        timeout = self._timeout()
        with get_session().stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as response:
            if response.status_code == 416:
                self._part(file).unlink()
                self._done -= start
                return
            hf_raise_for_status(response)
            resumed = response.status_code == 206
            if start and not resumed:
                self._done -= start
            with self._part(file).open("ab" if resumed else "wb") as part:
                for chunk in response.iter_bytes(_CHUNK_BYTES):
                    part.write(chunk)
                    self._done += len(chunk)
                    self._tell(file)
                    self._check_cancel()

    def _timeout(self) -> httpx.Timeout:
        import httpx

        return httpx.Timeout(min(self._settings.request_timeout_s, _STALL_S), connect=self._settings.connect_timeout_s)

    def _verify(self, file: RemoteFile) -> None:
        part = self._part(file)
        wanted = file.sha256 or file.blob
        if wanted is None:
            return
        digest = hashlib.sha256() if file.sha256 else hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
        with part.open("rb") as stream:
            while block := stream.read(_CHUNK_BYTES):
                digest.update(block)
        if digest.hexdigest() != wanted:
            part.unlink()
            name, found = self._entry.id, digest.hexdigest()
            raise ModelRefused(
                en=f"The downloaded file {file.name} of “{name}” is damaged: its checksum should be {wanted} but is {found}. Download again.",
                ja=f"「{name}」のファイル{file.name}が壊れています：チェックサムは{wanted}のはずですが{found}です。再ダウンロードしてください。",
                model=self._entry.id,
            )

    def _link(self, file: RemoteFile) -> None:
        """Let the hub client put the file's name into the snapshot; the blob is there, so it loads nothing."""
        from huggingface_hub import hf_hub_download

        hf_hub_download(
            self._entry.model,
            file.name,
            revision=self._commit,
            cache_dir=self._storage.parent,
            endpoint=self._settings.hub_endpoint,
            token=secret(TOKEN_ENV) or False,
            etag_timeout=self._settings.connect_timeout_s,
        )

    def _tell(self, file: RemoteFile, *, force: bool = False) -> None:
        now_s = time.monotonic()
        if self._report is None or (not force and now_s - self._reported_at < _REPORT_EVERY_S):
            return
        self._reported_at = now_s
        self._marks.append((now_s, self._done))
        while len(self._marks) > 2 and now_s - self._marks[0][0] > _RATE_WINDOW_S:
            self._marks.popleft()
        then_s, then = self._marks[0]
        moved = self._done - then
        left = (self._total - self._done) * (now_s - then_s) / moved if moved > 0 else None
        self._report(DownloadProgress(self._done / 1e6, self._total / 1e6, left, file.name))

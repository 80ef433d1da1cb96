"""Downloads through the real hub client from a hub-like server on loopback: resume, cancel, damage, refusals."""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from llmops_kit.errors import Cancelled, InvalidValue, ModelNotReady, ModelRefused
from llmops_kit.models import Models
from llmops_kit.models.download import DownloadProgress
from llmops_kit.settings import Settings
from tests.tiny_model import build_tiny_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "owner/tiny"


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Hub:
    """A hub with one model. `delay_s` is paid for each 64 KiB of weights; `cut_after` ends one answer early, once."""

    files: dict[str, bytes]
    commit: str = COMMIT
    delay_s: float = 0.0
    cut_after: int | None = None
    ignore_ranges: bool = False
    gated: bool = False
    spoil: str | None = None
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)

    def info(self) -> dict[str, object]:
        """What `/api/models/…?blobs=true` answers."""
        siblings = []
        for name, content in self.files.items():
            item: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": git_hash(content)}
            if name.endswith(".safetensors"):
                item["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
            siblings.append(item)
        return {"id": REPOSITORY, "modelId": REPOSITORY, "sha": self.commit, "siblings": siblings, "private": False, "tags": [], "downloads": 0, "likes": 0}


class _HubAnswer(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        hub = self.hub
        hub.requests.append((self.command, self.path, self.headers["Range"]))
        if hub.gated and self.headers["Authorization"] != "Bearer hf_good":
            self._finish(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}, b"", body=body)
        elif re.match(rf"/api/models/{REPOSITORY}(/revision/\w+)?(\?|$)", self.path):
            self._finish(200, {"Content-Type": "application/json"}, json.dumps(hub.info()).encode(), body=body)
        elif (found := re.match(rf"/{REPOSITORY}/resolve/{hub.commit}/([\w.-]+)$", self.path)) and found[1] in hub.files:
            self._send_file(found[1], body=body)
        else:
            self._finish(404, {"X-Error-Code": "RepoNotFound"}, b"", body=body)

    def _send_file(self, name: str, *, body: bool) -> None:
        hub, content = self.hub, self.hub.files[name]
        big = name.endswith(".safetensors")
        etag = hashlib.sha256(content).hexdigest() if big else git_hash(content)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": hub.commit, "Accept-Ranges": "bytes"}
        asked = re.match(r"bytes=(\d+)-$", self.headers["Range"] or "")
        start = int(asked[1]) if asked and not hub.ignore_ranges else 0
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if hub.spoil == name:
            content = content[:-1] + bytes([content[-1] ^ 1])
        self._finish(206 if start else 200, headers, content[start:], body=body, name=name if big else None)

    def _finish(self, status: int, headers: dict[str, str], content: bytes, *, body: bool, name: str | None = None) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if not body:
            return
        cut, step = self.hub.cut_after if name else None, 1 << 16
        for start in range(0, len(content), step):
            if cut is not None and start >= cut:
                self.hub.cut_after = None
                self.close_connection = True
                return
            try:
                self.wfile.write(content[start : start + step])
            except OSError:
                return
            if name:
                self.hub.sent[name] += len(content[start : start + step])
                time.sleep(self.hub.delay_s)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A complete tiny model, padded to a few megabytes, with files a model does not need beside it."""
    from safetensors.torch import load_file, save_file

    folder = build_tiny_model(tmp_path_factory.mktemp("hub"))
    weights = load_file(folder / "model.safetensors")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt", "padding": "x" * 3_000_000})
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    return files | {"pytorch_model.bin": b"pickle", "evil.py": b"raise SystemExit", "README.md": b"# tiny", "onnx/model.json": b"{}", ".hidden.json": b"{}"}


@pytest.fixture
def hub(content: dict[str, bytes]) -> Hub:
    return Hub(dict(content))


@pytest.fixture
def models(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Models]:
    """Models whose hub is the server on loopback, named by the hub client's own variable."""
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answer", (_HubAnswer,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # the suite runs offline; this server is on loopback
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    settings = Settings(workspace=tmp_path / "workspace", hub_cache=tmp_path / "cache", offline=False)
    opened = Models(settings)
    opened.add("tiny", provider="huggingface", model=REPOSITORY, context_tokens=256, dtype="float32")
    yield opened
    server.shutdown()
    thread.join()
    server.server_close()


def run_until(models: Models, done_mb: float) -> list[DownloadProgress]:
    """Download until `done_mb` are there, then cancel; give the reports."""
    cancel, reports = threading.Event(), []

    def report(progress: DownloadProgress) -> None:
        reports.append(progress)
        if progress.done_mb >= done_mb:
            cancel.set()

    with pytest.raises(Cancelled):
        models.download("tiny", progress=report, cancel=cancel)
    return reports


def test_a_download_is_complete_pinned_and_answers(models: Models, hub: Hub, tmp_path: Path) -> None:
    assert models.state("tiny").status == "needs_download"
    reports: list[DownloadProgress] = []
    folder = models.download("tiny", progress=reports.append)
    wanted = {name for name in hub.files if "/" not in name and not name.startswith(".") and not name.endswith((".bin", ".py", ".md"))}
    assert {file.name for file in folder.iterdir()} == wanted
    for name in wanted:
        assert (folder / name).read_bytes() == hub.files[name], name
    assert folder == tmp_path / "cache" / "models--owner--tiny" / "snapshots" / COMMIT
    assert reports[-1].done_mb == pytest.approx(reports[-1].total_mb) and reports[-1].total_mb > 3
    assert models.get("tiny").revision == COMMIT
    assert models.state("tiny").is_ready
    answer = models.chat("tiny").invoke([("user", "hello")], max_tokens=3, temperature=0)
    assert answer.response_metadata["model_revision"] == COMMIT
    again = Models(Settings(workspace=tmp_path / "workspace", hub_cache=tmp_path / "cache"))
    assert again.get("tiny").revision == COMMIT and again.state("tiny").is_ready, "offline too"


class Terminal(io.StringIO):
    """What somebody at a terminal sees of stderr."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar_that_starts_where_the_last_try_ended(models: Models, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.delay_s = 0.01
    run_until(models, 1.0)
    hub.delay_s = 0.0
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    models.download("tiny")
    shares = [int(share) for share in re.findall(r"(\d+)%", terminal.getvalue())]
    assert 15 <= shares[0] < 100 and shares[-1] == 100
    assert re.search(r"\dM/3\.\d+M", terminal.getvalue()), "megabytes"


def test_nobody_who_looks_elsewhere_gets_a_bar(models: Models, capfd: pytest.CaptureFixture[str]) -> None:
    models.download("tiny")
    assert "%" not in capfd.readouterr().err


def test_other_tools_find_what_was_downloaded(models: Models, tmp_path: Path) -> None:
    from huggingface_hub import try_to_load_from_cache

    models.download("tiny")
    assert try_to_load_from_cache(REPOSITORY, "config.json", cache_dir=tmp_path / "cache", revision=COMMIT)


def test_cancel_in_the_middle_then_the_rest_is_fetched_and_the_file_equals(models: Models, hub: Hub) -> None:
    hub.delay_s = 0.01
    started = time.monotonic()
    reports = run_until(models, 1.0)
    assert time.monotonic() - started < 20
    assert 0.5 < reports[-1].done_mb < 3 and any(report.seconds_left is not None for report in reports)
    assert models.state("tiny").status == "needs_download"
    hub.delay_s, hub.requests[:] = 0.0, []
    folder = models.download("tiny")
    resumed = [asked for method, path, asked in hub.requests if method == "GET" and path.endswith("model.safetensors")]
    assert len(resumed) == 1 and resumed[0] is not None
    start = int(re.sub(r"\D", "", resumed[0]))
    assert start > 500_000
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


def test_a_state_is_shown_while_it_downloads_and_a_second_start_is_refused(models: Models, hub: Hub) -> None:
    hub.delay_s = 0.02
    cancel, seen, ended = threading.Event(), threading.Event(), []

    def work() -> None:
        try:
            models.download("tiny", progress=lambda done: done.done_mb > 0.3 and seen.set(), cancel=cancel)
        except Cancelled as stopped:
            ended.append(stopped)

    thread = threading.Thread(target=work)
    thread.start()
    assert seen.wait(20)
    state = models.state("tiny")
    with pytest.raises(ModelNotReady, match="already"):
        models.download("tiny")
    cancel.set()
    thread.join(20)
    assert not thread.is_alive() and len(ended) == 1
    assert state.status == "downloading" and 0 < (state.done_mb or 0) < (state.size_mb or 0)
    assert "ダウンロード中" in state.text("ja") and "MB" in state.text("ja")


def test_a_broken_connection_goes_on_where_it_broke(models: Models, hub: Hub) -> None:
    hub.cut_after = 1_000_000
    folder = models.download("tiny")
    asked = [asked for method, path, asked in hub.requests if method == "GET" and path.endswith("model.safetensors")]
    assert asked[0] is None and asked[1] is not None
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


def test_a_server_without_ranges_starts_the_file_anew(models: Models, hub: Hub) -> None:
    hub.delay_s = 0.01
    run_until(models, 1.0)
    hub.delay_s, hub.ignore_ranges = 0.0, True
    reports: list[DownloadProgress] = []
    folder = models.download("tiny", progress=reports.append)
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert reports[-1].done_mb == pytest.approx(reports[-1].total_mb)


def test_a_damaged_file_is_refused_by_name_and_checksum_and_loads_cleanly_next_time(models: Models, hub: Hub) -> None:
    weights_sum, config_sum = hashlib.sha256(hub.files["model.safetensors"]).hexdigest(), git_hash(hub.files["config.json"])
    for name, checksum in (("config.json", config_sum), ("model.safetensors", weights_sum)):
        hub.spoil = name
        with pytest.raises(ModelRefused) as refused:
            models.download("tiny")
        assert name in refused.value.text("ja") and checksum in refused.value.text("ja")
        assert models.state("tiny").status == "needs_download"
    hub.spoil = None
    assert (models.download("tiny") / "config.json").read_bytes() == hub.files["config.json"]


def test_the_pin_holds_when_the_hub_moves_on(models: Models, hub: Hub) -> None:
    models.download("tiny")
    hub.requests.clear()
    models.download("tiny")
    assert any(f"/revision/{COMMIT}" in path for _, path, _ in hub.requests)
    assert not [path for method, path, _ in hub.requests if method == "GET" and "/resolve/" in path], "nothing is fetched twice"


def test_a_full_disk_is_seen_before_the_first_byte(models: Models, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1_000_000))
    with pytest.raises(ModelNotReady) as error:
        models.download("tiny")
    assert "1.0 MB" in error.value.text("ja") and "空き" in error.value.text("ja")
    assert not hub.sent


def test_a_model_without_safetensors_is_refused(models: Models, hub: Hub) -> None:
    del hub.files["model.safetensors"]
    with pytest.raises(ModelRefused, match=r"no \.safetensors weights"):
        models.download("tiny")
    assert not [path for _, path, _ in hub.requests if path.endswith(".bin")]


def test_a_gated_model_asks_for_the_licence_and_the_token(models: Models, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated = True
    with pytest.raises(ModelNotReady, match="HF_TOKEN"):
        models.download("tiny")
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert (models.download("tiny") / "config.json").is_file()


def test_what_the_hub_does_not_have_and_a_hub_that_is_not_there_are_told_apart(models: Models, tmp_path: Path) -> None:
    models.add("gone", provider="huggingface", model="owner/gone")
    with pytest.raises(ModelNotReady, match="owner/gone"):
        models.download("gone")
    nowhere = Settings(workspace=tmp_path / "workspace", hub_cache=tmp_path / "cache", offline=False, hub_endpoint="http://127.0.0.1:9")
    with pytest.raises(ModelNotReady, match="could not be reached"):
        Models(nowhere).download("tiny")


def test_offline_nothing_is_asked(models: Models, hub: Hub, tmp_path: Path) -> None:
    offline = Models(Settings(workspace=tmp_path / "workspace", hub_cache=tmp_path / "cache"))
    with pytest.raises(ModelNotReady, match="LLMOPS_OFFLINE=0"):
        offline.download("tiny")
    with pytest.raises(InvalidValue):
        offline.download("gpt-4o-mini")
    assert hub.requests == []

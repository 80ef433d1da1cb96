"""`python app.py` as a person meets it: the options, one clear line when it cannot start, and the address when it can."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from llmops_kit.settings import Settings
from llmops_kit.store import Store
from tests.app_process import ROOT, find_free_port

OLD_PYTHONS = [path for name in ("python2", "python3.6", "python3.8", "python3.9", "python3.10") if (path := shutil.which(name))]


def run_app(*options: str, wrapper: tuple[str, ...] = (), python: tuple[str, ...] = (sys.executable,), **environment: str) -> subprocess.CompletedProcess[str]:
    """The app's whole life, for a start that is refused."""
    command = [*wrapper, *python, "app.py", *options]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LLMOPS_")}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, env={**kept, "PYTHONIOENCODING": "utf-8", **environment})


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on standard error; nothing else may be there."""
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("llmops_kit: ")
    return lines[0]


def test_help_names_every_option_in_both_languages() -> None:
    done = run_app("--help")
    assert done.returncode == 0
    for option in ("--workspace", "--host", "--port", "--language", "--models-file", "--log-level"):
        assert option in done.stdout
    assert "folder of everything" in done.stdout
    assert "フォルダー" in done.stdout


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_taken_port_is_one_line(tmp_path: Path, language: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        line = refusal(run_app("--port", str(port), "--workspace", str(tmp_path / "ws"), "--language", language))
    assert str(port) in line
    assert "--port" in line
    assert ("already in use" in line) is (language == "en")
    assert ("使われています" in line) is (language == "ja")


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        (("--port", "70000"), {}, ("port", "70000", "65535")),
        (("--port", "http"), {}, ("port", "http")),
        (("--host", "0.0.0.0"), {}, ("0.0.0.0", "--host 127.0.0.1", "rooms", "ルーム")),
        (("--host", "192.168.1.9"), {"LLMOPS_ALLOWED_HOSTS": "llmops.example.com"}, ("192.168.1.9",)),
        (("--host", "localhost.evil.example"), {}, ("localhost.evil.example",)),
        (("--models-file", "nowhere.yaml"), {}, ("models_file", "nowhere.yaml")),
        ((), {"LLMOPS_DRAIN_S": "-1"}, ("drain_s", "-1")),
        ((), {"LLMOPS_LOG_LEVEL": "loud"}, ("log_level", "loud", "debug")),
        ((), {"LLMOPS_ALLOWED_HOSTS": "a.example, https://b.example"}, ("allowed_hosts", "https://b.example")),
    ],
)
def test_a_setting_that_does_not_serve_is_one_line(tmp_path: Path, options: tuple[str, ...], environment: dict[str, str], said: tuple[str, ...]) -> None:
    line = refusal(run_app("--workspace", str(tmp_path / "ws"), *options, **environment))
    for word in said:
        assert word in line
    assert " / " in line, "both languages where none was chosen"


def test_a_workspace_that_is_no_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "ws"):
        line = refusal(run_app("--workspace", str(folder)))
        assert str(folder) in line
        assert "--workspace" in line


def test_a_workspace_from_a_newer_version_is_one_line(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path / "ws")
    Store(settings.store_url).close()
    with sqlite3.connect(settings.workspace / "kit.sqlite") as database:
        database.execute("INSERT INTO migrations (name, applied_at) VALUES ('2031_later', '2031-01-01 00:00:00')")
    database.close()
    line = refusal(run_app("--workspace", str(settings.workspace), "--port", str(find_free_port()), "--language", "en"))
    assert "newer version" in line
    assert "2031_later" in line


def mounted(folder: Path, options: str, then: str = "true") -> tuple[str, ...]:
    """A command prefix under which `folder` is a small file system of its own, seen by nobody else."""
    script = f'mount -t tmpfs -o {options} tmpfs "{folder}" && {then} && exec "$@"'
    return ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)), "sh", "-c", script, "sh")


def can_mount(folder: Path) -> bool:
    return shutil.which("unshare") is not None and subprocess.run([*mounted(folder, "size=1m"), "true"], capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A folder that can become a file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not can_mount(folder):
        pytest.skip("this machine lets nobody mount a small file system")
    return folder


def test_a_full_disk_is_one_line(disk: Path) -> None:
    line = refusal(run_app("--workspace", str(disk / "ws"), wrapper=mounted(disk, "size=1m")))
    assert "is full" in line
    assert "空きがありません" in line
    assert "--workspace" in line


def test_a_read_only_workspace_is_one_line(disk: Path) -> None:
    read_only = f'mount -o remount,ro "{disk}"'
    line = refusal(run_app("--workspace", str(disk), wrapper=mounted(disk, "size=9m", read_only)))
    assert "read-only" in line
    assert "書き込めません" in line


def test_the_first_lines_are_plain_enough_for_an_old_python() -> None:
    """f-strings, annotations and the walrus are syntax errors on the Pythons this file has to talk to."""
    tree = ast.parse((ROOT / "app.py").read_text(encoding="utf-8"), feature_version=(3, 4))
    modern = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.AsyncFunctionDef, ast.Match, ast.FunctionDef)
    assert not [node for node in ast.walk(tree) if isinstance(node, modern)]


def test_an_old_python_is_one_line() -> None:
    pretend = "import sys; sys.version_info = (3, 9, 1); sys.argv = ['app.py']; exec(compile(open('app.py', encoding='utf-8').read(), 'app.py', 'exec'))"
    done = subprocess.run([sys.executable, "-c", pretend], cwd=ROOT, capture_output=True, text=True)
    line = refusal(done)
    assert "3.11" in line
    assert "3.9" in line


def test_every_real_old_python_here_says_it_in_one_line() -> None:
    old = "import sys; sys.exit(sys.version_info >= (3, 11))"
    found = [python for python in OLD_PYTHONS if subprocess.run([python, "-c", old], capture_output=True).returncode == 0]
    if not found:
        pytest.skip("this machine has no Python older than 3.11")
    for python in found:
        assert "3.11" in refusal(run_app(python=(python,)))


def test_missing_libraries_are_one_line() -> None:
    line = refusal(run_app(python=(sys.executable, "-S")))
    assert "make run" in line


def test_the_address_is_printed_when_the_app_answers(tmp_path: Path) -> None:
    """And a first signal ends it with exit code 0, an open page or not."""
    port = find_free_port()
    command = [sys.executable, "app.py", "--port", str(port), "--workspace", str(tmp_path / "作業 フォルダー"), "--log-level", "debug"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    try:
        assert process.stdout is not None
        watchdog = threading.Timer(180, process.kill)
        watchdog.start()
        line = process.stdout.readline()
        watchdog.cancel()
        assert line == f"llmops_kit: http://127.0.0.1:{port}\n"
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            assert "gradio_config" in client.get("/").text
            assert client.get("/healthz").json() == {"status": "ok"}
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out == ""
        assert "Traceback" not in err
    finally:
        process.kill()
        process.communicate()

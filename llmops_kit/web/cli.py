"""The command line of the app: options, checks before anything heavy loads, and one clear line when it cannot start."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llmops_kit.errors import KitError, SettingError, WorkspaceError
from llmops_kit.settings import Settings

EXIT_REFUSED = 2
_PROBE_BYTES = 4 * 2**20  # enough for a new store and its log
_FULL = (errno.ENOSPC, errno.EDQUOT)
_EPILOG = """\
Every option can also be set as an environment variable, e.g. LLMOPS_PORT. The app listens on this machine only.
Behind a proxy on this machine that logs people in, name its host in LLMOPS_ALLOWED_HOSTS (llmops.example.com).
どのオプションも環境変数（例：LLMOPS_PORT）で指定できます。アプリはこのマシンだけで待ち受けます。
ログインを受け持つプロキシを同じマシンで使うときは、そのホスト名をLLMOPS_ALLOWED_HOSTSに指定してください（例：llmops.example.com）。"""


def read_settings(arguments: Sequence[str]) -> Settings:
    """The settings of this start: the command line first, then the environment, then the defaults.

    Raises: SettingError where one does not serve, WorkspaceError where the workspace cannot be written.
    """
    given = {name: value for name, value in vars(_parser().parse_args(arguments)).items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise _first(error) from error
    if settings.models_file is not None and not settings.models_file.is_file():
        raise SettingError(name="models_file", value=settings.models_file, allowed="an existing YAML file / 既存のYAMLファイル")
    check_workspace(settings.workspace)
    return settings


def check_workspace(folder: Path) -> None:
    """Make `folder` if it is not there, and see that a few megabytes can be written and synced in it.

    Raises: WorkspaceError.
    """
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with probe.open("wb") as out:
                out.write(bytes(_PROBE_BYTES))
                out.flush()
                os.fsync(out.fileno())
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise workspace_error(folder, error) from error


def workspace_error(folder: Path, error: OSError) -> WorkspaceError:
    """What the system said about `folder`, as a sentence with the next step."""
    if error.errno in _FULL:
        return WorkspaceError(
            en=f"The disk of the workspace {folder} is full. Free some space, or choose another folder with --workspace.",
            ja=f"ワークスペース{folder}のディスクに空きがありません。空きを作るか、--workspaceで別のフォルダーを指定してください。",
            path=folder,
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return WorkspaceError(
            en=f"The workspace {folder} is read-only for you. Choose a folder you may write to with --workspace.",
            ja=f"ワークスペース{folder}に書き込めません。書き込めるフォルダーを--workspaceで指定してください。",
            path=folder,
        )
    return WorkspaceError(path=folder, reason=error.strerror or error)


@contextlib.contextmanager
def one_line_errors(arguments: Sequence[str]) -> Iterator[None]:
    """Turn a deliberate error, or a disk that gave out, into one line on standard error and exit code 2."""
    language = _asked_language(arguments)
    try:
        yield
    except KitError as error:
        _refuse(error, language)
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # what a shell expects of a program stopped by Ctrl-C while it starts
    except OSError as error:
        if error.errno not in (*_FULL, errno.EROFS):
            raise
        _refuse(workspace_error(Path(error.filename or "."), error), language)


def show_address(url: str) -> None:
    """Tell the person where the app is."""
    sys.stdout.write(f"llmops_kit: {url}\n")
    sys.stdout.flush()


def leave() -> None:
    """End the process with exit code 0, also when a handler that outlived the drain still holds a thread."""
    sys.stdout.flush()
    sys.stderr.flush()
    if any(not thread.daemon and thread is not threading.main_thread() for thread in threading.enumerate()):
        os._exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="app.py",
        description="The LLMOps app, in your browser. / ブラウザーで使うLLMOpsアプリ。",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    defaults = Settings.model_fields
    add = parser.add_argument
    add("--workspace", metavar="DIR", help="folder of everything the app keeps / データを保存するフォルダー (./workspace)")
    add("--host", help=f"address to listen on, loopback only / 待ち受けるアドレス（このマシンのみ） ({defaults['host'].default})")
    add("--port", metavar="N", help=f"port to listen on / 待ち受けるポート ({defaults['port'].default})")
    add("--language", choices=("auto", "ja", "en"), help="language of the app; auto: the browser's / 表示言語。autoはブラウザーに従う (auto)")
    add("--models-file", metavar="FILE", help="YAML of further models / 追加モデルのYAMLファイル (WORKSPACE/models.yaml)")
    add("--log-level", choices=("debug", "info", "warning", "error"), help="how much the log says / ログの詳しさ (info)")
    return parser


def _first(error: ValidationError) -> SettingError:
    """The first thing wrong with the settings, as one sentence."""
    fault: Any = error.errors(include_url=False)[0]
    name = str(fault["loc"][0]) if fault["loc"] else "settings"
    described = Settings.model_fields[name].description if name in Settings.model_fields else ""
    said = str(fault["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")
    value = "…" if name == "database_url" else fault["input"]
    return SettingError(name=name, value=value, allowed=f"{said} ({described})")


def _asked_language(arguments: Sequence[str]) -> str | None:
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        value = following if argument == "--language" else argument.removeprefix("--language=")
        if value in ("ja", "en") and argument.startswith("--language"):
            return value
    return None


def _refuse(error: KitError, language: str | None) -> None:
    text = error.text(language) if language else f"{error.text('en')} / {error.text('ja')}"
    sys.stderr.write(f"llmops_kit: {' '.join(text.split())}\n")
    sys.stderr.flush()
    raise SystemExit(EXIT_REFUSED) from None

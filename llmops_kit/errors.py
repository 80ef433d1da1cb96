"""Every error the kit raises on purpose.

KitError
├── SettingError           a setting, file or folder the kit was started with does not serve
│   ├── WorkspaceError         the workspace cannot be opened, written or is from a newer version
│   ├── CatalogueError         a list of models has an entry that does not serve
│   └── PortTaken              another program listens on the port
├── InputError             what a person typed, chose or uploaded does not serve
│   ├── UnknownName            a model, prompt, version or label that is not there
│   ├── MissingVariable        a required blank of a prompt is empty
│   ├── InvalidValue           a value outside what is allowed
│   └── UnreadableFile         a file that cannot be read as what it says it is
├── NotSaved               a rating or vote that did not reach the disk; what was typed is still on the page
├── IndexRebuilding        the search index of a collection is being made anew; wait a moment
├── ModelError             a model could not answer
│   ├── ModelNotReady          it needs a download, a key or a larger machine
│   ├── ModelRefused           it failed its self-test or breaks a safety rule
│   ├── PromptTooLong          the prompt and the answer do not fit its context
│   └── EndpointError          its server is down, slow, refuses, or answers nonsense
├── TrackingError          W&B does not take the rows now; they wait in the store
├── Diverged               the loss of a training is no number any more; nothing of it is published
├── AccessDenied           somebody asked for what is not theirs
└── Cancelled              the person stopped it; not a fault

Each class carries its sentence in English and Japanese with the facts filled in, and the next step after it.
A bug is none of these: it stays an ordinary exception and is loud in the log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from llmops_kit.types import Run


class KitError(Exception):
    """Base of all deliberate errors. `facts` are the values named in the sentence; `run` is the recorded call, if any.

    A fact that reads differently in the two languages is given as `{"en": …, "ja": …}`.

    `what` and `next_step` are templates by language. A raiser with a more precise sentence passes its own:
    `InvalidValue(en="…", ja="…", value=3)`; both languages are required then.
    """

    key: ClassVar[str] = "error.kit"
    what: ClassVar[dict[str, str]] = {"en": "Something went wrong: {reason}", "ja": "うまくいきませんでした：{reason}"}
    next_step: ClassVar[dict[str, str]] = {"en": "", "ja": ""}

    def __init__(self, *, en: str | None = None, ja: str | None = None, run: Run | None = None, **facts: object) -> None:
        self.facts = facts
        self.run = run
        own = {"en": en, "ja": ja} if en is not None and ja is not None else {}
        self._texts = {language: own.get(language) or self._fill(language) for language in ("en", "ja")}
        super().__init__(self._texts["en"])

    def _fill(self, language: str) -> str:
        sentence = self.what[language] + (" " if language == "en" else "") + self.next_step[language]
        return re.sub(r"\{(\w+)\}", lambda blank: str(self._fact(blank[1], language)), sentence).strip()

    def _fact(self, name: str, language: str) -> object:
        value = self.facts.get(name, f"{{{name}}}")
        return value[language] if isinstance(value, Mapping) and set(value) == {"en", "ja"} else value

    def text(self, language: str) -> str:
        """The whole sentence with its next step, in `language` (`ja`, else English)."""
        return self._texts["ja" if language.startswith("ja") else "en"]

    def __str__(self) -> str:
        return f"{self._texts['en']}\n{self._texts['ja']}"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self._texts, self.facts)


def _rebuild(kind: type[KitError], texts: dict[str, str], facts: dict[str, object]) -> KitError:
    error = kind(en=texts["en"], ja=texts["ja"])
    error.facts = facts
    return error


class SettingError(KitError):
    """A setting the kit was started with does not serve (`name`, `value`, `allowed`)."""

    key = "error.setting"
    what = {"en": "The setting {name} is “{value}”, which does not work here.", "ja": "設定{name}の値「{value}」はここでは使えません。"}
    next_step = {"en": "Allowed: {allowed}.", "ja": "使える値：{allowed}。"}


class WorkspaceError(SettingError):
    """The workspace folder cannot be used (`path`, `reason`)."""

    key = "error.workspace"
    what = {"en": "The workspace {path} cannot be used: {reason}.", "ja": "ワークスペース{path}を使えません：{reason}。"}
    next_step = {"en": "Choose another folder with --workspace.", "ja": "--workspaceで別のフォルダーを指定してください。"}


class CatalogueError(SettingError):
    """A list of models has an entry that does not serve (`file`, `entry`, `field`, `value`, `allowed`)."""

    key = "error.catalogue"
    what = {
        "en": "In the model list {file}, entry “{entry}”, the field {field} is “{value}”.",
        "ja": "モデル一覧{file}のエントリ「{entry}」で、項目{field}の値「{value}」は使えません。",
    }
    next_step = {"en": "Allowed: {allowed}.", "ja": "使える値：{allowed}。"}


class PortTaken(SettingError):
    """Another program already listens on the port (`port`)."""

    key = "error.port_taken"
    what = {"en": "Port {port} is already in use.", "ja": "ポート{port}は既に使われています。"}
    next_step = {"en": "Choose another one, for example --port {other}.", "ja": "別のポートを指定してください（例：--port {other}）。"}


class InputError(KitError):
    """What a person gave does not serve."""

    key = "error.input"


class UnknownName(InputError):
    """There is no such model, prompt, version or label (`kind`, `name`, `known`)."""

    key = "error.unknown"
    what = {"en": "There is no {kind} named “{name}”.", "ja": "{kind}「{name}」は見つかりません。"}
    next_step = {"en": "Known: {known}.", "ja": "使えるもの：{known}。"}


class MissingVariable(InputError):
    """A required blank of a prompt is empty (`prompt`, `variable`)."""

    key = "error.missing_variable"
    what = {"en": "The prompt “{prompt}” needs a value for “{variable}”.", "ja": "プロンプト「{prompt}」の変数「{variable}」が空です。"}
    next_step = {"en": "Fill it in and run again.", "ja": "入力してからもう一度実行してください。"}


class InvalidValue(InputError):
    """A value outside what is allowed (`name`, `value`, `allowed`)."""

    key = "error.invalid_value"
    what = {"en": "“{value}” does not work for {name}.", "ja": "{name}に「{value}」は使えません。"}
    next_step = {"en": "Allowed: {allowed}.", "ja": "使える値：{allowed}。"}


class UnreadableFile(InputError):
    """A file that cannot be read as what it says it is (`file`, `reason`)."""

    key = "error.unreadable_file"
    what = {"en": "“{file}” could not be read: {reason}.", "ja": "「{file}」を読めませんでした：{reason}。"}
    next_step = {"en": "Check the file and upload it again.", "ja": "ファイルを確かめて、もう一度アップロードしてください。"}


class NotSaved(KitError):
    """A rating or vote did not reach the disk (`reason`). Nothing of it was written; it can be sent again under the same id."""

    key = "error.not_saved"
    what = {"en": "This was NOT saved: {reason}.", "ja": "保存されていません：{reason}。"}
    next_step = {
        "en": "What you entered is still here: try again, and tell the facilitator if it stays.",
        "ja": "入力した内容は残っています。もう一度送信し、続くようなら進行役に知らせてください。",
    }


class IndexRebuilding(KitError):
    """The search index of a collection is being made anew from the store (`collection`, `done`, `total`). Nothing is lost."""

    key = "error.index_rebuilding"
    what = {
        "en": "The search index of “{collection}” is being rebuilt ({done} of {total} chunks).",
        "ja": "「{collection}」の検索インデックスを作り直しています（{total}件中{done}件）。",
    }
    next_step = {"en": "Nothing is lost; ask again in a moment.", "ja": "文書は失われていません。少し待ってから、もう一度試してください。"}


class ModelError(KitError):
    """A model could not answer (`model`, `reason`)."""

    key = "error.model"
    what = {"en": "The model “{model}” could not answer: {reason}.", "ja": "モデル「{model}」は回答できませんでした：{reason}。"}


class ModelNotReady(ModelError):
    """The model needs a download, a key or a larger machine (`model`, `reason`)."""

    key = "error.model_not_ready"
    what = {"en": "The model “{model}” is not ready: {reason}.", "ja": "モデル「{model}」はまだ使えません：{reason}。"}
    next_step = {"en": "Open the model panel, or choose starter-lm.", "ja": "モデルパネルを開くか、starter-lmを選んでください。"}


class ModelRefused(ModelError):
    """The model failed its self-test or breaks a safety rule (`model`, `reason`)."""

    key = "error.model_refused"
    what = {"en": "The model “{model}” was refused: {reason}.", "ja": "モデル「{model}」は使えません：{reason}。"}


class PromptTooLong(ModelError):
    """The prompt and the wanted answer do not fit (`model`, `prompt_tokens`, `max_tokens`, `context_tokens`)."""

    key = "error.prompt_too_long"
    what = {
        "en": "The prompt has {prompt_tokens} tokens; with {max_tokens} for the answer it does not fit the {context_tokens} tokens of “{model}”.",
        "ja": "プロンプトは{prompt_tokens}トークンです。回答用の{max_tokens}トークンと合わせると、「{model}」の上限{context_tokens}トークンを超えます。",
    }
    next_step = {"en": "Shorten the text or lower max_tokens.", "ja": "文章を短くするか、max_tokensを下げてください。"}


class Busy(ModelError):
    """Too many requests wait for the model already (`model`, `waiting`, `limit`)."""

    key = "error.busy"
    what = {
        "en": "{waiting} requests wait for “{model}” already, which is as many as it takes ({limit}).",
        "ja": "「{model}」には{waiting}件の順番待ちがあり、受け付けられる上限（{limit}件）に達しています。",
    }
    next_step = {"en": "Try again in a minute, or choose another model.", "ja": "少し待ってから再試行するか、別のモデルを選んでください。"}


class TimedOut(ModelError):
    """An answer took longer than its limit, waiting in line included (`model`, `waited_s`, `tokens`)."""

    key = "error.timed_out"
    what = {
        "en": "“{model}” had not finished after {waited_s} seconds; {tokens} tokens were written.",
        "ja": "「{model}」の回答が{waited_s}秒たっても終わりませんでした（{tokens}トークンまで生成）。",
    }
    next_step = {"en": "Ask for a shorter answer, or try again when fewer people are waiting.", "ja": "回答を短くするか、空いているときに再試行してください。"}


class EngineStopped(ModelError):
    """The engine of a local model broke down while it was answering, and was started again (`model`, `reason`)."""

    key = "error.engine_stopped"
    what = {
        "en": "The engine of “{model}” stopped unexpectedly and was started again ({reason}).",
        "ja": "「{model}」の実行エンジンが予期せず停止したため、再起動しました（{reason}）。",
    }
    next_step = {"en": "Run it again.", "ja": "もう一度実行してください。"}


class EndpointError(ModelError):
    """The model's server is down, slow, refuses, or answers nonsense (`model`, `reason_en`, `reason_ja`)."""

    key = "error.endpoint"
    what = {"en": "The server of “{model}” did not answer properly: {reason_en}.", "ja": "「{model}」のサーバーが正しく応答しませんでした：{reason_ja}。"}
    next_step = {"en": "Check its address and key, then retry.", "ja": "アドレスとキーを確かめて、再試行してください。"}


class TrackingError(KitError):
    """W&B, or its offline file, does not take the rows now (`reason`). Nothing is lost: they wait in the store."""

    key = "error.tracking"
    what = {"en": "The W&B tables could not be written: {reason}.", "ja": "W&Bの表に書き込めませんでした：{reason}。"}
    next_step = {"en": "The rows are safe in the store and will be sent again.", "ja": "データはワークスペースに残っており、あとで自動的に送り直します。"}


class Diverged(KitError):
    """The loss of a training became NaN or infinite (`step`, `loss`). Its adapter is not published."""

    key = "error.diverged"
    what = {"en": "The training diverged: the loss was {loss} at step {step}.", "ja": "学習が発散しました（ステップ{step}で損失が{loss}）。"}
    next_step = {
        "en": "Lower the learning rate (a tenth of it, say) or look for broken rows, then start again.",
        "ja": "学習率を下げるか（たとえば10分の1）、データに壊れた行がないか確かめて、もう一度実行してください。",
    }


class AccessDenied(KitError):
    """Somebody asked for what is not theirs (`resource`)."""

    key = "error.access_denied"
    what = {"en": "You may not open {resource}.", "ja": "{resource}を開く権限がありません。"}
    next_step = {"en": "Ask its owner or the facilitator.", "ja": "所有者か進行役に確認してください。"}


class Cancelled(KitError):
    """The person stopped it."""

    key = "error.cancelled"
    what = {"en": "Stopped.", "ja": "停止しました。"}

"""What can go wrong with a model server, said in both languages and without the key."""

from __future__ import annotations

import logging
import socket
import ssl
from dataclasses import dataclass

import openai

from llmops_kit.errors import EndpointError, KitError
from llmops_kit.models.endpoint_retry import PATIENCE_S, find_causes, read_wait_s
from llmops_kit.models.endpoint_wire import Stalled

_log = logging.getLogger(__name__)
_QUOTE_CHARS = 200  # of a server's own words
_UNREADABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)  # what reading broken JSON raises


@dataclass(frozen=True)
class Server:
    """The server as an error names it; `key` is there to be kept out of what is said. Times are seconds.

    `tries` is how often the request was sent before it was given up.
    """

    model: str
    remote_name: str
    address: str
    key: str
    connect_timeout_s: float
    request_timeout_s: float
    tries: int = 1

    def fault(self, english: str, japanese: str) -> EndpointError:
        """The error with this reason."""
        if self.tries > 1:
            english, japanese = f"{english} ({self.tries} tries)", f"{japanese}（{self.tries}回試行）"
        return EndpointError(model=self.model, reason_en=english, reason_ja=japanese)


def explain_fault(error: BaseException, server: Server) -> BaseException:
    """The `KitError` that says what `error` means; `error` itself where it is none of a server's faults."""
    if isinstance(error, KitError):
        return error
    if isinstance(error, openai.APIStatusError):
        return _explain_status(error, server)
    if isinstance(error, Stalled | openai.APITimeoutError):
        return _explain_timeout(error, server)
    if isinstance(error, openai.APIConnectionError):
        return _explain_connection(error, server)
    if isinstance(error, openai.APIError):
        quote_en, quote_ja = _quote(error, server)
        return server.fault(f"it reported an error in the middle of the answer{quote_en}", f"回答の途中でエラーが返りました{quote_ja}")
    if isinstance(error, (openai.OpenAIError, *_UNREADABLE)):
        _log.warning("The answer of %s could not be read: %s", server.model, type(error).__name__)
        return server.fault(
            "it sent nothing that can be read as an answer (empty, or broken JSON)", "回答として読めるデータが届きませんでした（空か、壊れたJSONです）"
        )
    return error


def _explain_status(error: openai.APIStatusError, server: Server) -> EndpointError:
    status = error.status_code
    quote_en, quote_ja = _quote(error, server)
    if status in (401, 403):
        return server.fault(
            f"it refuses the key (status {status}); the key is wrong, expired or not allowed this model",
            f"キーが拒否されました（ステータス{status}）。キーの誤り、期限切れ、または権限不足です",
        )
    if status == 404:
        return server.fault(
            f"it knows no model “{server.remote_name}” at {server.address} (status 404){quote_en}",
            f"{server.address}にモデル「{server.remote_name}」がありません（ステータス404）{quote_ja}",
        )
    if status in (429, 503) and (wait_s := read_wait_s(error.response.headers)) > PATIENCE_S:
        return server.fault(
            f"it is busy (status {status}) and asks to come back in {wait_s:.0f} s",
            f"混み合っています（ステータス{status}）。{wait_s:.0f}秒後に再試行するよう求めています",
        )
    if status == 429:
        return server.fault(f"it is busy or the quota is used up (status 429){quote_en}", f"混雑しているか、利用枠を使い切りました（ステータス429）{quote_ja}")
    if 300 <= status < 400:
        return server.fault(
            f"it redirects to another address (status {status}), which is not followed",
            f"別のアドレスへ転送されました（ステータス{status}）。転送先には接続しません",
        )
    if status >= 500:
        return server.fault(f"it failed by itself (status {status}){quote_en}", f"サーバー内部のエラーです（ステータス{status}）{quote_ja}")
    return server.fault(f"it rejected the request (status {status}){quote_en}", f"リクエストが拒否されました（ステータス{status}）{quote_ja}")


def _explain_timeout(error: BaseException, server: Server) -> EndpointError:
    if any(type(cause).__name__ == "ConnectTimeout" for cause in find_causes(error)):
        return server.fault(
            f"{server.address} could not be reached within {server.connect_timeout_s:g} s",
            f"{server.address}に{server.connect_timeout_s:g}秒以内に接続できませんでした",
        )
    return server.fault(f"it stayed silent for {server.request_timeout_s:g} s", f"{server.request_timeout_s:g}秒間、応答がありませんでした")


def _explain_connection(error: BaseException, server: Server) -> EndpointError:
    causes = tuple(find_causes(error))
    names = {type(cause).__name__ for cause in causes}
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return server.fault(f"the host name in {server.address} is not known", f"{server.address}のホスト名が見つかりません")
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return server.fault(f"no server listens at {server.address}", f"{server.address}で待ち受けているサーバーがありません")
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return server.fault(f"the certificate or encryption of {server.address} is not valid", f"{server.address}の証明書または暗号化が正しくありません")
    if names & {"RemoteProtocolError", "ReadError"}:
        return server.fault("it broke off before the answer was complete", "回答の途中で接続が切れました")
    return server.fault(f"the connection to {server.address} failed", f"{server.address}への接続に失敗しました")


def _quote(error: openai.APIError, server: Server) -> tuple[str, str]:
    """The server's own words, shortened, in both frames; nothing where they hold the key."""
    body = error.body
    words = body.get("message") or body.get("detail") if isinstance(body, dict) else body
    text = " ".join(str(words).split()) if isinstance(words, str) else ""
    if not text or "<html" in text.lower() or (server.key and server.key in text):
        return "", ""
    short = text if len(text) <= _QUOTE_CHARS else text[: _QUOTE_CHARS - 1] + "…"
    return f": “{short}”", f"：「{short}」"

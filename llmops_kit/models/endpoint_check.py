"""The self-test of a model behind an address: is each of its servers there, is the key accepted, does it have the model."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import httpx2

from llmops_kit.errors import KitError
from llmops_kit.models.catalogue import ModelEntry
from llmops_kit.models.endpoint_wire import Stalled, Wire
from llmops_kit.models.selftest import CheckResult
from llmops_kit.settings import Settings

_AT_A_TIME = 8
_UNREADABLE = (ValueError, KeyError, TypeError, RecursionError)  # what a list of models that is none raises


@dataclass(frozen=True)
class _Finding:
    """What one server said, in both languages; `models`: how many it has, where it said so."""

    passed: bool
    en: str
    ja: str
    models: int | None = None


def check_endpoint(entry: ModelEntry, settings: Settings, key: str | None) -> CheckResult:
    """Ask each server of an entry for its list of models: costs nothing and tells address, key and name apart.

    It has passed where all of them have; else the sentence names those that have not.
    """
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        findings = dict(zip(entry.addresses, pool.map(partial(_check_server, entry, settings, key), entry.addresses), strict=True))
    failed = [finding for finding in findings.values() if not finding.passed]
    if len(findings) == 1:
        (only,) = findings.values()
        return CheckResult(entry.id, only.passed, {"en": only.en, "ja": only.ja}, {} if only.models is None else {"models": only.models})
    facts = {address: "✓" if finding.passed else "✗" for address, finding in findings.items()}
    if not failed:
        texts = {"en": f"All {len(findings)} servers answer and have the model.", "ja": f"{len(findings)}台のサーバーすべてが応答し、モデルもあります。"}
        return CheckResult(entry.id, True, texts, facts)
    head = {"en": f"{len(failed)} of {len(findings)} servers failed. ", "ja": f"{len(findings)}台中{len(failed)}台のサーバーに問題があります。"}
    texts = {"en": head["en"] + " ".join(finding.en for finding in failed), "ja": head["ja"] + "".join(finding.ja for finding in failed)}
    return CheckResult(entry.id, False, texts, facts)


def _check_server(entry: ModelEntry, settings: Settings, key: str | None, address: str) -> _Finding:
    url = f"{address}/models"
    try:
        names = _read_names(entry, settings, key, url)
    except httpx2.HTTPStatusError as error:
        status = error.response.status_code
        advice = (" Check the key.", "キーを確かめてください。") if status in (401, 403) else ("", "")
        return _Finding(False, f"The server at {url} answered with status {status}.{advice[0]}", f"{url}の応答が{status}でした。{advice[1]}")
    except (httpx2.HTTPError, httpx2.InvalidURL, Stalled, KitError, *_UNREADABLE) as error:
        kind = type(error).__name__
        en = f"No list of models came from {url} ({kind}). Check the address."
        return _Finding(False, en, f"{url}からモデル一覧を取得できません（{kind}）。アドレスを確かめてください。")
    if entry.model not in names:
        shown = ", ".join(names[:10])
        en, ja = f"The server at {url} has no model “{entry.model}”; it has: {shown}.", f"{url}にモデル「{entry.model}」はありません。あるもの：{shown}。"
        return _Finding(False, en, ja, len(names))
    return _Finding(True, "The server answers and has the model.", "サーバーは応答し、モデルもあります。", len(names))


def _read_names(entry: ModelEntry, settings: Settings, key: str | None, url: str) -> list[str]:
    """The names of the server's models; read in a thread of its own, as a server that drips bytes would hold this one for ever."""
    wire = Wire(model=entry.id, connect_timeout_s=settings.connect_timeout_s, request_timeout_s=settings.request_timeout_s, streams=False)

    def ask() -> Iterator[httpx2.Response]:
        yield wire.client.get(url, headers={"Authorization": f"Bearer {key}"} if key else {})

    with wire.client:
        (answer,) = (arrived for arrived in wire.watch(ask()) if arrived is not None)
    answer.raise_for_status()
    return [str(item["id"]) for item in answer.json()["data"]]

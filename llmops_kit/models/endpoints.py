"""The model servers of one workspace: what the requests of all people to one of them share."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING

from llmops_kit.models.catalogue import ModelEntry
from llmops_kit.models.endpoint_replicas import Replicas
from llmops_kit.settings import Settings

if TYPE_CHECKING:
    import ssl

    from llmops_kit.models.embedder_endpoint import EndpointEmbedder
    from llmops_kit.models.endpoint import EndpointChat


class Endpoints:
    """Hands out a chat object or embedder per call, and keeps one waiting line per model behind them. Nothing of one person stays here."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lines: dict[tuple[str, ...], Replicas] = {}
        self._embedders: dict[str, EndpointEmbedder] = {}
        self._lock = threading.Lock()

    def chat(self, entry: ModelEntry, *, api_key: str | None = None, owner: str = "") -> EndpointChat:
        """A chat model for one person (`owner`), with their key if they have one."""
        from pydantic import SecretStr

        from llmops_kit.models.endpoint import EndpointChat

        chat = EndpointChat(
            entry=entry,
            owner=owner,
            api_key=SecretStr(api_key) if api_key else None,
            connect_timeout_s=self._settings.connect_timeout_s,
            request_timeout_s=self._settings.request_timeout_s,
            retries=self._settings.endpoint_retries,
        )
        return chat.share(self.replicas(entry), self._tls)

    def embedder(self, entry: ModelEntry, *, api_key: str | None = None, owner: str = "") -> EndpointEmbedder:
        """An embedder for one person (`owner`), with their key if they have one; without either, one for all."""
        if api_key or owner:
            return self._make_embedder(entry, api_key, owner)
        with self._lock:
            shared = self._embedders.get(entry.id)
        if shared is None:
            made = self._make_embedder(entry, None, "")
            with self._lock:
                shared = self._embedders.setdefault(entry.id, made)
        return shared

    def _make_embedder(self, entry: ModelEntry, api_key: str | None, owner: str) -> EndpointEmbedder:
        from llmops_kit.models.embedder_endpoint import EndpointEmbedder
        from llmops_kit.models.endpoint_call import Caller
        from llmops_kit.models.endpoint_wire import Wire

        connect_s, request_s = self._settings.connect_timeout_s, self._settings.request_timeout_s
        wire = Wire(model=entry.id, connect_timeout_s=connect_s, request_timeout_s=request_s, tls=self._tls, streams=False)
        caller = Caller(entry, self.replicas(entry), wire, connect_s, request_s, self._settings.endpoint_retries, owner)
        return EndpointEmbedder(entry, caller, api_key=api_key)

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        import httpx2

        return httpx2.create_ssl_context()

    def replicas(self, entry: ModelEntry) -> Replicas:
        """The servers of a model, with those who wait for them."""
        key = (entry.id, *entry.addresses)
        with self._lock:
            if key not in self._lines:
                limit, wait_s = self._settings.endpoint_concurrency, self._settings.endpoint_wait_s
                self._lines[key] = Replicas(entry.id, entry.addresses, limit=limit, wait_s=wait_s)
            return self._lines[key]

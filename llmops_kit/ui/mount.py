"""Mounting the user interface in the web app: the one place that hands Gradio blocks to FastAPI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

# One thread per running handler: streams of a whole room at once, and still one for a click that only looks something up.
MAX_THREADS = 100
MAX_WAITING = 200
DELETE_CACHE_S = (3600, 86400)


def mount(app: Any, blocks: gr.Blocks, *, path: str, user_dependency: Callable[[Any], str | None], **options: Any) -> Any:
    """Mount `blocks` in the FastAPI `app` at `path`, closed as far as Gradio can be closed; give the app back.

    The queue takes no direct calls; no run history, monitoring page, API page or error details; uploads and results
    older than a day are deleted. `user_dependency` gives the id handlers see as `request.username`. `options` are
    further keywords of `gradio.mount_gradio_app`.
    """
    blocks.max_threads = MAX_THREADS
    blocks.delete_cache = blocks.delete_cache or DELETE_CACHE_S
    blocks.queue(default_concurrency_limit=8, max_size=MAX_WAITING, api_open=False)
    closed = {"run_history": False, "enable_monitoring": False, "show_error": False, "footer_links": [], "mcp_server": False, "ssr_mode": False}
    return gr.mount_gradio_app(app, blocks, path=path, auth_dependency=user_dependency, **{**options, **closed})

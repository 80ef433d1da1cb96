"""The web app: the user interface behind the edge, and the few routes that are the kit's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.middleware.cors import CORSMiddleware

from llmops_kit.access import User
from llmops_kit.web.bindings import Bindings
from llmops_kit.web.edge import Edge, EdgePolicy, EdgeState
from llmops_kit.web.identity import Identity, load_key
from llmops_kit.web.language import PageLanguage
from llmops_kit.web.responses import LANGUAGE_COOKIE
from llmops_kit.web.routes import KIT_ROUTES, Guard, RouteTable

if TYPE_CHECKING:
    from llmops_kit.kit import Kit
    from llmops_kit.settings import Settings

MEGABYTE = 2**20
_FILES_PER_UPLOAD = 4
_LANGUAGE_AGE_S = 60 * 60 * 24 * 365


class LanguageChoice(BaseModel):
    """The body of `POST /language`."""

    language: Literal["ja", "en"]


class Mount(Protocol):
    """How the user interface puts itself into the web app (`llmops_kit.ui.mount.mount`)."""

    def __call__(self, app: FastAPI, blocks: Any, *, path: str, user_dependency: Callable[[Request], str | None], **options: Any) -> FastAPI:
        """Mount `blocks` in `app` at `path`; handlers see the id `user_dependency` gives."""


def build_app(
    kit: Kit, blocks: Any, *, mount: Mount, frame_ancestors: Sequence[str] = (), routes: Mapping[str, Guard] | None = None, **page: Any
) -> FastAPI:  # fmt: skip
    """The whole web app for `kit` with the user interface `blocks` (Gradio Blocks) at `/`, safe to serve on loopback.

    `mount` puts the blocks in. `frame_ancestors` are origins that may show the app in a frame (a notebook on this machine);
    `routes` classifies routes the caller adds to the result; `page` are page options such as `theme`, `css`, `head`
    and `i18n`. The app does not close the kit. Raises: WorkspaceError.
    """
    settings = kit.settings
    settings.upload_folder.mkdir(parents=True, exist_ok=True)
    identity = Identity(load_key(settings.workspace / "identity.key"))
    state = EdgeState(Bindings(settings.upload_folder))
    app = FastAPI(title="llmops_kit", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.edge = state
    # No origin but our own, which needs no permission. That it is there also keeps Gradio from adding a wider one.
    app.add_middleware(CORSMiddleware, allow_origins=())
    app.add_middleware(PageLanguage, language=settings.language)
    app.add_middleware(Edge, identity=identity, policy=_policy(settings, frame_ancestors), routes=RouteTable({**KIT_ROUTES, **(routes or {})}), state=state)
    _add_routes(app)
    mount(app, blocks, path="/", user_dependency=current_user, max_file_size=int(settings.max_upload_mb * MEGABYTE), **page)
    state.bindings.files.publish(blocks.config["components"])
    return app


def current_user(request: Request) -> str | None:
    """The id of the person the edge found behind `request`."""
    user: User | None = request.scope.get("llmops_user")
    return user.id if user else None


def _policy(settings: Settings, frame_ancestors: Sequence[str]) -> EdgePolicy:
    return EdgePolicy(
        upload_folder=settings.upload_folder,
        allowed_hosts=tuple(name.lower() for name in settings.allowed_hosts),
        frame_ancestors=("'self'", *frame_ancestors) if frame_ancestors else (),
        max_json_bytes=int(settings.max_request_mb * MEGABYTE),
        max_upload_bytes=int(settings.max_upload_mb * MEGABYTE * _FILES_PER_UPLOAD) + MEGABYTE,
    )


def _add_routes(app: FastAPI) -> None:
    @app.get("/healthz")
    def healthz() -> JSONResponse:
        return JSONResponse({"status": "stopping" if app.state.edge.draining else "ok"})

    @app.post("/language", status_code=204)
    def choose_language(choice: LanguageChoice, request: Request) -> Response:
        # Not HttpOnly: the page's own script reads it, so that the labels are right from the first paint.
        response = Response(status_code=204)
        secure = request.url.scheme == "https"
        response.set_cookie(LANGUAGE_COOKIE, choice.language, max_age=_LANGUAGE_AGE_S, samesite="lax", secure=secure)
        return response

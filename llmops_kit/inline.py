"""The app inside a notebook: `show_app(kit)` in the last cell."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

_FRAMES = ("http://127.0.0.1:*", "http://localhost:*", "https://localhost:*")
"""Pages that may show the app in a frame: notebooks served on this machine."""


@dataclass(frozen=True)
class InlineApp:
    """A running app; showing it in a cell shows the page. `close()` ends it, the kit stays open."""

    url: str
    height: int = 900
    _stack: ExitStack = field(default_factory=ExitStack, repr=False)

    def close(self) -> None:
        """Stop the app. Answers under way are ended."""
        self._stack.close()

    def _repr_html_(self) -> str:
        address = escape(self.url)
        link = f'<p><a href="{address}" target="_blank">{address}</a></p>'
        return f'{link}<iframe src="{address}" width="100%" height="{self.height}" style="border:0"></iframe>'


def show_app(kit: Kit, *, port: int = 0, height: int = 900) -> InlineApp:
    """Serve the app for `kit` on this machine and give it, ready to be shown in the cell.

    `port` 0 takes any free one; `height` is in pixels. Raises `PortTaken` where the port is in use.
    """
    from llmops_kit import ui
    from llmops_kit.ui.mount import mount
    from llmops_kit.web import server, service

    page: dict[str, Any] = {"theme": ui.theme(), "css": ui.CSS, "head": ui.HEAD, "i18n": ui.translations()}
    app = service.build_app(kit, ui.build(kit), mount=mount, frame_ancestors=_FRAMES, **page)
    stack = ExitStack()
    url = stack.enter_context(server.serving(app, port=port))
    kit.tracking.start()
    # Jupyter opens on "localhost"; under any other name the frame would be cross-site and lose its cookie.
    return InlineApp(url.replace("127.0.0.1", "localhost"), height, stack)

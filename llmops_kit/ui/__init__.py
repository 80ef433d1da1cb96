"""The Gradio app over a kit: one file per tab. The only place that imports gradio."""

from __future__ import annotations

from llmops_kit.ui.frame import CSS, HEAD, build, theme
from llmops_kit.ui.text import translations

__all__ = ["CSS", "HEAD", "build", "theme", "translations"]

"""The kit: opens the adapters and holds the nouns. It has no behaviour of its own."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from llmops_kit.settings import Settings, silence_libraries

if TYPE_CHECKING:
    from llmops_kit.comparison import Comparisons
    from llmops_kit.documents import Documents
    from llmops_kit.feedback import Ratings
    from llmops_kit.jobs import Jobs
    from llmops_kit.models import Models
    from llmops_kit.playground import Playground
    from llmops_kit.prompts import PromptLibrary
    from llmops_kit.store import Store
    from llmops_kit.tracking import Tracking
    from llmops_kit.tuning import Tuning


class Kit:
    """Everything the kit can do, one noun after the other. Press Tab after the dot.

    Built by `open_kit`. Each noun is opened on first use and shared by everybody who holds this kit, so nothing on it
    belongs to one person. Raises `WorkspaceError` where the workspace cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        silence_libraries(settings)
        self.store: Store  # opened at once: a workspace that cannot be used must say so before anything else
        from llmops_kit.store import Store

        self.store = Store(settings.store_url)

    @cached_property
    def models(self) -> Models:
        """The model catalogue and the chat models."""
        from llmops_kit.models import Models

        return Models(self.settings)

    @cached_property
    def prompts(self) -> PromptLibrary:
        """The prompt library: versions, labels, differences."""
        from llmops_kit.prompts import PromptLibrary

        return PromptLibrary(self.store, library_folder(), self.settings.workspace / "prompts")

    @cached_property
    def playground(self) -> Playground:
        """Run prompts on models: once, streaming, or as a grid."""
        from llmops_kit.playground import Playground

        return Playground(self.store, self.models, self.prompts, max_prompt_chars=self.settings.max_prompt_chars)

    @cached_property
    def documents(self) -> Documents:
        """Documents: take them in, search them, ask them, see why."""
        from llmops_kit.documents import Documents

        return Documents(self.store, self.models, self.playground, self.settings)

    @cached_property
    def comparison(self) -> Comparisons:
        """Several models side by side, blind duels, and the ranking that the votes make."""
        from llmops_kit.comparison import Comparisons

        return Comparisons(self.store, self.playground, lambda: self.documents)

    @cached_property
    def feedback(self) -> Ratings:
        """Ratings, campaigns of ratings, how far raters agree, and the data made from what they said."""
        from llmops_kit.feedback import Ratings

        return Ratings(self.store)

    @cached_property
    def jobs(self) -> Jobs:
        """Long work in processes of its own: what waits, what runs, what became of it."""
        from llmops_kit.jobs import Jobs

        return Jobs(self.store, self.settings)

    @cached_property
    def tuning(self) -> Tuning:
        """Fine-tuning with LoRA, on examples or on preferences, and training from scratch."""
        from llmops_kit.tuning import Tuning

        nouns = (self.store, self.jobs, self.models, self.playground, self.tracking)
        return Tuning(*nouns, self.settings, comparison=lambda: self.comparison, feedback=lambda: self.feedback)

    @cached_property
    def tracking(self) -> Tracking:
        """The Weights & Biases tables made from the store."""
        from llmops_kit.tracking import Tracking

        return Tracking(self.store, self.settings)

    def close(self) -> None:
        """Send what is waiting to the W&B file, then close the store."""
        if "documents" in self.__dict__:
            self.documents.close()
        if "jobs" in self.__dict__:
            self.jobs.close()
        if "tracking" in self.__dict__:
            self.tracking.close()
        self.store.close()

    def __enter__(self) -> Kit:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Kit(workspace={str(self.settings.workspace)!r})"


def open_kit(workspace: str | Path | None = None, **settings: Any) -> Kit:
    """Open the kit on a workspace folder (made if it is not there; default `./workspace` or `LLMOPS_WORKSPACE`).

    Further keywords are settings, such as `language="ja"`; see `llmops_kit.settings.Settings`.
    Raises `WorkspaceError` where the folder cannot be used.
    """
    if workspace is not None:
        settings["workspace"] = Path(workspace)
    return Kit(Settings(**settings))


def library_folder() -> Path:
    """The folder of the prompts the kit ships: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "library"
    return installed if installed.is_dir() else package.parent / "prompts"

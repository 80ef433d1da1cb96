"""The library of prompts: files in, immutable versions in the store, labels that move, files out again."""

from __future__ import annotations

import hashlib
import logging
import threading
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import InputError, InvalidValue, UnknownName, WorkspaceError
from llmops_kit.prompts.diff import Diff, compare
from llmops_kit.prompts.file_format import check_name, content_of, format, parse, read
from llmops_kit.prompts.folder import list_files, move_aside, was_edited_since, write_whole
from llmops_kit.prompts.labels import LATEST, check_label, find_standing, normalize_label
from llmops_kit.prompts.template import render
from llmops_kit.store.columns import storable
from llmops_kit.types import LabelMove, Message, Prompt, PromptVersion, new_id, now

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.store import Store

_ATTEMPTS = 100
_log = logging.getLogger(__name__)


class PromptLibrary:
    """Prompts by name, each with its versions and labels. Safe to share between threads and processes.

    On opening, the shipped files in `folder` and the files people dropped into `workspace_folder` become versions where
    their text is not known yet. A file that cannot be read is left out and kept in `problems`.
    """

    def __init__(self, store: Store, folder: Path, workspace_folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._workspace_folder = workspace_folder
        self._files = threading.Lock()
        self.problems: tuple[InputError, ...] = ()
        self.refresh()

    def refresh(self) -> tuple[InputError, ...]:
        """Take in new and changed files of both folders; gives (and keeps in `problems`) what could not be read."""
        problems: list[InputError] = []
        with self._files:
            known = self._by_name(self._store.find(PromptVersion))
            for folder, author in ((self._folder, "library"), (self._workspace_folder, "file")):
                for path in list_files(folder):
                    try:
                        self._take_in(path, author, known)
                    except InputError as problem:
                        _log.warning("prompt file left out: %s", problem.text("en"))
                        problems.append(problem)
        self.problems = tuple(problems)
        return self.problems

    def names(self) -> tuple[str, ...]:
        """The names of all prompts, sorted."""
        return tuple(sorted(self._by_name(self._store.find(PromptVersion))))

    def table(self) -> pd.DataFrame:
        """One row per prompt: its newest version's texts, how many versions, and where its labels stand."""
        import pandas as pd

        standing = find_standing(self._store.find(LabelMove))
        rows = [self._row(versions, standing) for _, versions in sorted(self._by_name(self._store.find(PromptVersion)).items())]
        columns = ["name", "description_ja", "description_en", "versions", "labels", "updated", "author", "variables", "model"]
        return pd.DataFrame(rows, columns=columns)

    def get(self, name: str, version: int | None = None, label: str | None = None) -> Prompt:
        """The prompt `name`: its newest version, or the given `version`, or the one `label` stands on.

        Raises `UnknownName` where the prompt, the version or the label is not there.
        """
        versions = self._versions(name)
        labels = self.labels(versions[-1].name)
        if label is not None:
            label = normalize_label(label)
            if label not in labels:
                raise _unknown("label", "ラベル", label, labels)
            version = labels[label]
        number = versions[-1].version if version is None else version
        for candidate in versions:
            if candidate.version == number:
                return _prompt(candidate, labels)
        raise _unknown("version", "バージョン", f"{name} v{version}", [str(candidate.version) for candidate in versions])

    def versions(self, name: str) -> tuple[Prompt, ...]:
        """All versions of a prompt, newest first. Raises `UnknownName`."""
        versions = self._versions(name)
        labels = self.labels(versions[-1].name)
        return tuple(_prompt(version, labels) for version in reversed(versions))

    def save(self, prompt: Prompt, *, message: str, author: str = "local") -> Prompt:
        """Keep `prompt`, its model and parameters included, as the next version, and as the file `<name>.md` to take home.

        Saving what the newest version already says changes nothing and gives that version back, with its own number and
        message; `find_same` tells beforehand.

        Raises:
            InvalidValue: the name, a message or the JSON schema does not serve.
            WorkspaceError: the store or the workspace folder cannot be written.
        """
        text = _text_of(prompt)
        path = self._workspace_folder / f"{check_name(prompt.name)}.md"
        with self._files:
            if path.is_file():
                self._keep_edits(path)
            saved = self._append(parse(text), message=message, author=author)
            self._write_file(path, saved)
        if saved.message != message or saved.author != author:
            _log.info("%s v%d already says this; nothing was saved", saved.name, saved.version)
        return self.get(saved.name, version=saved.version)

    def find_same(self, prompt: Prompt) -> Prompt | None:
        """The newest version of this name if it already says what `prompt` says, else None."""
        name = check_name(prompt.name)
        newest = self._store.find(PromptVersion, name=name)
        same = newest and _says(max(newest, key=lambda version: version.version), parse(_text_of(prompt)))
        return self.get(name) if same else None

    def diff(self, name: str, old: int | str, new: int | str) -> Diff:
        """What changed from `old` to `new`, by version number or label, character by character. Raises `UnknownName`."""
        first, second = (self.get(name, label=which) if isinstance(which, str) else self.get(name, version=which) for which in (old, new))
        return compare(first, second)

    def label(self, name: str, version: int, label: str, *, author: str = "local") -> Prompt:
        """Set `label` on `version` and give that version; setting it on an older one is the rollback.

        Raises:
            UnknownName: there is no such prompt or version.
            InvalidValue: the label is `latest`, which moves by itself, or is not made of letters, digits, `_` and `-`.
        """
        label = check_label(label)
        prompt = self.get(name, version=version)
        if label in prompt.labels:
            return prompt
        self._store.append(LabelMove(id=new_id(), name=prompt.name, label=label, version=version, author=author[:80], created_at=now()))
        return self.get(name, version=version)

    def labels(self, name: str) -> dict[str, int]:
        """Where the labels of a prompt stand, as label → version, `latest` included. Raises `UnknownName`."""
        versions = self._versions(name)
        moves = find_standing(self._store.find(LabelMove, name=versions[-1].name))
        return {LATEST: versions[-1].version, **moves.get(versions[-1].name, {})}

    def render(self, prompt: Prompt | str, variables: Mapping[str, Any] | None = None, *, language: str | None = None) -> tuple[Message, ...]:
        """The messages of `prompt` (or of the newest version of that name) with its blanks filled in.

        `language` chooses the default of selects, see `template.render`. Raises `MissingVariable` or `InvalidValue` naming the variable.
        """
        return render(self.get(prompt) if isinstance(prompt, str) else prompt, variables, language=language)

    def _versions(self, name: str) -> list[PromptVersion]:
        """Oldest first."""
        plain = unicodedata.normalize("NFC", name).strip()
        found = self._store.find(PromptVersion, name=plain)
        if not found:
            names = self.names()
            raise _unknown("prompt", "プロンプト", name, (*get_close_matches(plain, names), *names))
        return sorted(found, key=lambda version: version.version)

    @staticmethod
    def _by_name(versions: Iterable[PromptVersion]) -> dict[str, list[PromptVersion]]:
        """Name → versions, oldest first."""
        groups: dict[str, list[PromptVersion]] = defaultdict(list)
        for version in sorted(versions, key=lambda version: version.version):
            groups[version.name].append(version)
        return groups

    @staticmethod
    def _row(versions: list[PromptVersion], standing: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
        newest = versions[-1]
        prompt = parse(newest.text)
        labels = {LATEST: newest.version, **standing.get(newest.name, {})}
        return {
            "name": newest.name,
            "description_ja": prompt.description.get("ja", ""),
            "description_en": prompt.description.get("en", ""),
            "versions": len(versions),
            "labels": ", ".join(f"{label} v{version}" for label, version in labels.items()),
            "updated": newest.created_at,
            "author": newest.author,
            "variables": ", ".join(variable.name for variable in prompt.variables),
            "model": prompt.model,
        }

    def _take_in(self, path: Path, author: str, known: dict[str, list[PromptVersion]]) -> None:
        prompt = read(path)
        prompt = replace(prompt, text=storable(prompt.text))
        versions = known.get(prompt.name, [])
        same = [version for version in versions if version.sha256 == prompt.sha256]
        # An older text in the file: it missed its update (then it is older than the newest version), or somebody put it back.
        put_back = author == "file" and same and same[-1] is not versions[-1] and was_edited_since(path, versions[-1].created_at)
        if not same or put_back:
            message = f"llmops_kit {installed_version('llmops_kit')}" if author == "library" else path.name
            known.setdefault(prompt.name, []).append(self._append(prompt, message=message, author=author))

    def _keep_edits(self, path: Path) -> None:
        """Take in what somebody wrote into the file since it was read, before it is written over."""
        try:
            prompt = read(path)
        except InputError as problem:
            aside = move_aside(path)
            _log.warning("%s moved to %s: %s", path.name, aside.name, problem.text("en"))
            return
        prompt = replace(prompt, text=storable(prompt.text))
        if not self._store.count(PromptVersion, name=prompt.name, sha256=prompt.sha256):
            self._append(prompt, message=path.name, author="file")

    def _append(self, prompt: Prompt, *, message: str, author: str) -> PromptVersion:
        """Write the next version, or give the newest where it says the same. Others may be doing this at the same moment."""
        _check_schema(prompt)
        for _ in range(_ATTEMPTS):
            newest = max(self._store.find(PromptVersion, name=prompt.name), key=lambda version: version.version, default=None)
            if newest and _says(newest, prompt):
                return newest
            version = PromptVersion(
                id=new_id(),
                name=prompt.name,
                version=newest.version + 1 if newest else 1,
                text=prompt.text,
                sha256=hashlib.sha256(prompt.text.encode()).hexdigest(),
                message=storable(message),
                author=author[:80],
                created_at=now(),
            )
            try:
                self._store.append(version)
            except WorkspaceError:
                # The number is unique: if it is there now, somebody else was quicker, and the next one is tried.
                if not self._store.count(PromptVersion, name=version.name, version=version.version):
                    raise
            else:
                return version
        raise WorkspaceError(path=str(self._workspace_folder), reason=f"{prompt.name}: {_ATTEMPTS} other versions were saved meanwhile")

    def _write_file(self, path: Path, saved: PromptVersion) -> None:
        """Write the take-home file. Whoever writes last looks again, so the file ends as the newest version."""
        while True:
            write_whole(path, saved.text)
            newest = self._versions(saved.name)[-1]
            if newest.version <= saved.version or newest.author == "library":
                return
            saved = newest


def _text_of(prompt: Prompt) -> str:
    """The file text of `prompt`: the one it was read from while that still says the same (it may hold comments), else a new one."""
    if not prompt.messages:
        raise InvalidValue(name="messages", value="", allowed="≥ 1")
    check_name(prompt.name)
    _check_schema(prompt)
    if prompt.text and content_of(parse(prompt.text)) == content_of(prompt):
        return storable(prompt.text)
    return storable(format(prompt))


def _check_schema(prompt: Prompt) -> None:
    if prompt.schema is None:
        return
    from jsonschema import Draft202012Validator, SchemaError

    try:
        Draft202012Validator.check_schema(prompt.schema)
    except SchemaError as fault:
        raise InvalidValue(name="schema", value=fault.message[:200], allowed="JSON Schema 2020-12") from fault


def _says(version: PromptVersion, prompt: Prompt) -> bool:
    return version.text == prompt.text or content_of(parse(version.text)) == content_of(prompt)


def _prompt(version: PromptVersion, labels: Mapping[str, int]) -> Prompt:
    here = tuple(label for label, number in labels.items() if number == version.version)
    history = {"message": version.message, "author": version.author, "created_at": version.created_at}
    return replace(parse(version.text), version=version.version, labels=here, text=version.text, **history)  # type: ignore[arg-type]


def _unknown(en: str, ja: str, name: str, known: Iterable[str]) -> UnknownName:
    listed = ", ".join(dict.fromkeys(known))
    return UnknownName(
        kind=en,
        name=name,
        known=listed,
        en=f"There is no {en} “{name[:80]}”. Known: {listed}.",
        ja=f"{ja}「{name[:80]}」は見つかりません。使えるもの：{listed}。",
    )

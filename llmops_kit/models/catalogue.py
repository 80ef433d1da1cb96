"""The model catalogue: what one entry says, and reading it from YAML with errors that name file, entry and field."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from llmops_kit.errors import CatalogueError, InvalidValue, KitError

Provider = Literal["starter", "huggingface", "openai"]
Kind = Literal["base", "instruct", "chat", "extractive", "embedding", "reranker"]
PromptStyle = Literal["plain", "rinna_nl", "rinna_lf", "alpaca_ja", "calm2", "llama2", "chat_template", "openai"]
TokenizerLoader = Literal["auto", "spm_backend", "tokenizers_unigram"]
DType = Literal["auto", "float32", "bfloat16", "float16"]

OPENAI_URL = "https://api.openai.com/v1"
PACKAGE_FILE = Path(__file__).with_name("catalogue.yaml")
BYTES_PER_PARAMETER = {"float32": 4, "bfloat16": 2, "float16": 2}
_RUNTIME_GB = 0.5
_WORKING_FACTOR = 1.1
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C, where PyYAML was built with it, is ten times faster
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_LANGUAGES = " ‖ "  # between the English and the Japanese half of a validator's message


def _check_address(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"an http:// or https:// address with a host{_LANGUAGES}http://かhttps://で始まるアドレス")
    if url.username or url.password:
        raise ValueError(f"an address without a user name or password{_LANGUAGES}ユーザー名やパスワードを含まないアドレス")
    return value.rstrip("/")


Address = Annotated[str, AfterValidator(_check_address)]
LanguageCode = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]


class ModelEntry(BaseModel):
    """One model of the catalogue.

    `model` is a hub id (`owner/name`), a local folder, or the name an endpoint knows. `revision` is a 40-digit commit, or a
    pull request of the hub (`refs/pr/7`); there, and where it is empty, the first download pins the commit it resolved in the workspace.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9._+-]{0,79}$", description="the name used everywhere in the kit")
    provider: Provider
    model: str = Field(min_length=1, max_length=300)
    revision: str | None = Field(None, pattern=r"^([0-9a-f]{40}|refs/pr/[1-9][0-9]{0,5})$")
    display_name: Mapping[str, str] = Field(default_factory=dict, description="name by language (ja, en)")
    kind: Kind = "chat"
    arch: str | None = None
    params_b: float | None = Field(None, gt=0, description="parameters, in thousand millions")
    weights_dtype: Literal["float32", "bfloat16", "float16"] = Field("bfloat16", description="number format of the downloaded files")
    context_tokens: int = Field(4096, ge=16, description="prompt and answer together, in tokens; of an embedder or reranker what it reads of a text")
    licence: str = "unknown"
    licence_commercial: Literal["yes", "no", "conditions", "unknown"] = "unknown"
    release_date: date | None = None
    gated: bool = Field(False, description="True: the hub asks for an account that accepted the licence (HF_TOKEN)")
    prompt_style: PromptStyle = "chat_template"
    template_args: Mapping[str, str | int | float | bool] = Field(default_factory=dict, description="further values the model's chat template takes")
    system_prompt: str | None = Field(None, description="system message used where a conversation brings none")
    system_in_user: bool = Field(False, description="True: the format has no system role; it is put before the first user turn")
    newline_token: str | None = Field(None, description="what stands for a line break inside a turn (rinna: <NL>)")
    strip_leading_newline: bool = False
    stop: tuple[str, ...] = Field((), description="texts at which an answer ends, besides the end-of-text token")
    add_special_tokens: bool = Field(False, description="True: the tokenizer adds its begin token to the rendered prompt")
    tokenizer_loader: TokenizerLoader = "auto"
    tokenizer_golden: Mapping[str, tuple[int, ...]] = Field(default_factory=dict, description="text → ids the tokenizer must give")
    dtype: DType = "auto"
    size_mb: float | None = Field(None, gt=0, description="download, in megabytes; default: from the parameters")
    min_memory_gb: float | None = Field(None, gt=0, description="memory needed, in gigabytes; default: from the parameters")
    default_params: Mapping[str, float | int] = Field(default_factory=dict)
    base_url: Address | None = None
    replicas: tuple[Address, ...] = Field((), description="further servers, besides base_url, that answer for the same model with the same key")
    api_key_env: str | None = Field(None, pattern=r"^[A-Z][A-Z0-9_]*$", description="environment variable that holds the key")
    price_in_per_mtok: float | None = Field(None, ge=0, description="US dollars per million prompt tokens")
    price_out_per_mtok: float | None = Field(None, ge=0, description="US dollars per million answer tokens")
    price_date: date | None = None
    trust_remote_code: bool = False
    adapter: str | None = Field(None, min_length=1, description="folder of a LoRA adapter (safetensors) that goes on the model")
    requires_transformers: str | None = Field(None, description="version rule such as <5")
    query_prefix: str | None = Field(None, max_length=1000, description="embedder: what stands before a question; default: the model's own prompt, if any")
    document_prefix: str | None = Field(None, max_length=1000, description="embedder: what stands before a passage; default: the model's own prompt, if any")
    dimensions: int | None = Field(None, ge=1, le=65536, description="embedder: numbers in a vector; checked where it is given")
    request_dimensions: bool = Field(False, description="embedder: True asks the server for vectors of that many dimensions (text-embedding-3)")
    languages: tuple[LanguageCode, ...] = Field((), description="embedder or reranker: the languages it knows (ISO 639: ja, en); empty: many")
    batch_size: int | None = Field(None, ge=1, le=2048, description="embedder or reranker: texts in one request or batch")
    package: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Python package that brings the files, in its folder `model`")
    weights_sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="SHA-256 that the package's model.safetensors must have")
    notes: Mapping[str, str] = Field(default_factory=dict)

    @field_validator("replicas")
    @classmethod
    def _check_replicas(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        first = info.data.get("base_url")
        if value and "base_url" in info.data and (first is None or info.data.get("provider") != "openai"):
            raise ValueError(f"further addresses of an openai entry that has a base_url{_LANGUAGES}base_urlのあるopenaiエントリの追加アドレス")
        if len({address.lower() for address in (*value, first or "")}) <= len(value):
            raise ValueError(f"each address once, base_url included{_LANGUAGES}base_urlも含めて重複のないアドレス")
        return value

    @field_validator("default_params")
    @classmethod
    def _check_params(cls, value: Mapping[str, float | int]) -> Mapping[str, float | int]:
        allowed = ("temperature", "top_p", "top_k", "repetition_penalty", "max_tokens", "seed")
        if set(value) - set(allowed):
            raise ValueError(f"only {', '.join(allowed)}{_LANGUAGES}{', '.join(allowed)}のみ")
        return value

    @field_validator("display_name", "notes")
    @classmethod
    def _check_languages(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        if set(value) - {"ja", "en"}:
            raise ValueError(f"only the languages ja and en{_LANGUAGES}jaとenのみ")
        return value

    @model_validator(mode="after")
    def _check_adapter(self) -> ModelEntry:
        if self.adapter is not None and self.provider == "openai":
            raise ValueError(f"no adapter with a server: name the adapter the server knows as model{_LANGUAGES}サーバーの場合、adapterは使えません")
        return self

    @model_validator(mode="after")
    def _check_dimensions(self) -> ModelEntry:
        if self.request_dimensions and (self.dimensions is None or self.provider != "openai"):
            raise ValueError(f"request_dimensions only of a server and with dimensions{_LANGUAGES}request_dimensionsはサーバーの場合のみ、dimensionsと一緒に")
        return self

    @model_validator(mode="after")
    def _check_prices(self) -> ModelEntry:
        if (self.price_in_per_mtok is None) != (self.price_out_per_mtok is None):
            both = "price_in_per_mtok, price_out_per_mtok"
            raise ValueError(f"both or neither of {both}{_LANGUAGES}{both}の両方、またはどちらも無し")
        return self

    def name(self, language: str = "en") -> str:
        """The display name in `language`, else the id."""
        return self.display_name.get("ja" if language.startswith("ja") else "en") or self.id

    def note(self, language: str = "en") -> str:
        """The note in `language`, or nothing."""
        return self.notes.get("ja" if language.startswith("ja") else "en", "")

    @property
    def can_chat(self) -> bool:
        """Whether it answers prompts; an embedder gives vectors and a reranker scores."""
        return self.kind not in ("embedding", "reranker")

    @property
    def addresses(self) -> tuple[str, ...]:
        """The servers that answer for an endpoint: `base_url` (default: OpenAI's own), then its replicas."""
        return (self.base_url or OPENAI_URL, *self.replicas)

    @property
    def is_local_folder(self) -> bool:
        """Whether `model` is a folder on this machine and not a hub id."""
        return self.provider == "huggingface" and (_HUB_ID.fullmatch(self.model) is None or Path(self.model).is_dir())

    @property
    def download_mb(self) -> float | None:
        """Megabytes to download: as stated, or parameters times the bytes of their stored format."""
        if self.size_mb is not None or self.params_b is None:
            return self.size_mb
        return self.params_b * 1000 * BYTES_PER_PARAMETER[self.weights_dtype]

    def memory_gb(self, dtype: str, *, params_b: float | None = None) -> float | None:
        """Gigabytes needed to run it in `dtype`, with `params_b` counted in its files where they are there.

        As stated, or parameters times bytes, a tenth more for activations and the attention cache, and half a
        gigabyte for the program itself. None where nothing is known.
        """
        params_b = params_b or self.params_b
        if self.min_memory_gb is not None or params_b is None:
            return self.min_memory_gb
        return params_b * BYTES_PER_PARAMETER[dtype] * _WORKING_FACTOR + _RUNTIME_GB


def parse_entry(raw: Mapping[str, Any], *, file: Path | None = None, position: int | None = None) -> ModelEntry:
    """Make a `ModelEntry` of plain values.

    Raises:
        CatalogueError: a field of the entry in `file` does not serve (names file, entry and field).
        InvalidValue: the same where the values come from a call and not from a file.
    """
    try:
        return ModelEntry(**raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "entry"
        entry = str(raw.get("id") or f"#{position}")
        value = _find_value(raw, first["loc"] or ("id",))
        if first["type"] == "extra_forbidden" or re.search("//[^/]*@", str(value)):
            value = "…"  # it may be a key somebody put in the wrong place, or an address with a password
        raise _field_error(file, entry, field, value=value, problem=_problem(first)) from None


def read_catalogue(file: Path) -> tuple[ModelEntry, ...]:
    """Read the entries of a YAML file: a list of models. A file that is not there has none.

    Raises:
        CatalogueError: the file is not such a list, an entry is wrong, or an id appears twice.
    """
    if not file.exists():
        return ()
    try:
        raw = yaml.load(file.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 - a safe loader in both cases
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise CatalogueError(
            en=f"The model list {file} cannot be read: {reason}. Correct the file or move it away.",
            ja=f"モデル一覧{file}を読めません：{reason}。ファイルを直すか、別の場所へ移してください。",
            file=str(file),
        ) from error
    if raw is None:
        return ()
    if not isinstance(raw, list) or not all(isinstance(item, dict) for item in raw):
        raise _field_error(file, "#1", "entry", value=type(raw).__name__, problem=("a list of entries, each “- id: …”", "「- id: …」の並び"))
    entries = [parse_entry(item, file=file, position=number) for number, item in enumerate(raw, 1)]
    _check_unique(entries, file)
    return tuple(entries)


def write_entry(raw: Mapping[str, Any]) -> str:
    """The YAML text of one entry, ready to be put at the end of a catalogue file."""
    return yaml.safe_dump([dict(raw)], allow_unicode=True, sort_keys=False)


def _check_unique(entries: Iterable[ModelEntry], file: Path) -> None:
    seen: set[str] = set()
    for entry in entries:
        if entry.id in seen:
            raise _field_error(file, entry.id, "id", value=entry.id, problem=("an id that appears once", "一度だけ現れるid"))
        seen.add(entry.id)


def _find_value(raw: object, place: Sequence[int | str]) -> object:
    """What stands at `place`, as far in as it can be followed."""
    for part in place:
        if isinstance(raw, Mapping):
            raw = raw.get(part)
        elif isinstance(raw, list | tuple) and isinstance(part, int) and part < len(raw):
            raw = raw[part]
    return raw


def _problem(error: Mapping[str, Any]) -> tuple[str, str]:
    """What is allowed instead, in English and in Japanese."""
    kind, message = error["type"], str(error["msg"]).removeprefix("Value error, ")
    if kind == "missing":
        return "a value (the field is missing)", "何らかの値（この項目がありません）"
    if kind == "extra_forbidden":
        known = ", ".join(ModelEntry.model_fields)
        return f"no such field; the fields are {known}", f"この名前の項目はありません。項目：{known}"
    english, _, japanese = message.partition(_LANGUAGES)
    return english, japanese or f"次の条件を満たす値（{english}）"


def _field_error(file: Path | None, entry: str, field: str, *, value: object, problem: tuple[str, str]) -> KitError:
    english, japanese = problem
    if file is None:
        return InvalidValue(
            en=f"“{value}” does not work for {field}. Allowed: {english}.",
            ja=f"{field}に「{value}」は使えません。使える値：{japanese}。",
            name=field,
            value=value,
        )
    return CatalogueError(
        en=f"In the model list {file}, entry “{entry}”, the field {field} is “{value}”. Allowed: {english}.",
        ja=f"モデル一覧{file}のエントリ「{entry}」で、項目{field}の値「{value}」は使えません。使える値：{japanese}。",
        file=str(file),
        entry=entry,
        field=field,
        value=value,
    )

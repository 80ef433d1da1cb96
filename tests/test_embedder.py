"""starter-embed at run time: vectors, checksums, threads, odd texts, and the same vectors through sentence-transformers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from llmops_kit.errors import InvalidValue, ModelRefused
from llmops_kit.models import Models
from llmops_kit.models.embedder import PIECE_CHARACTERS, StarterEmbedder
from llmops_kit.settings import Settings

WEIGHTS = Path(__file__).parent.parent / "llmops_kit" / "starter" / "weights" / "starter-embed"
TEXTS = [
    "年次有給休暇は、入社から6か月たった日に10日付与します。",
    "Employees receive 10 days of paid leave six months after joining.",
    "ｶﾞﾗｽと①、㈱、Ⅳ、½、ＡＢＣ、が（結合文字）",
    "don't 'quote' naïve café Straße ΑΒΓ привет 한국어 ไทย",
    "😀 👨‍👩‍👧 ♥ ∑ → 1,234.5 2026年11月23日",
    "𠮷野家と髙島屋、﨑、鷗外、々〆ヶ",
    "",
    "？！…。、 \n\t",
    "\x00a\x00",
    "x",
]


@pytest.fixture(scope="module")
def embedder() -> StarterEmbedder:
    return StarterEmbedder(WEIGHTS)


def test_rows_have_length_one_and_empty_texts_are_zero(embedder):
    vectors = embedder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dimensions) and vectors.dtype == np.float32
    silent = [not any(character.isalnum() or ord(character) > 0x1F000 for character in text) for text in TEXTS]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [0.0 if empty else 1.0 for empty in silent], atol=1e-6)
    assert embedder.encode([]).shape == (0, embedder.dimensions)
    assert embedder.embed_query(TEXTS[0]) == embedder.embed_documents(TEXTS)[0] == vectors[0].tolist()
    assert embedder.id == "starter-embed" and embedder.revision in (WEIGHTS / "SHA256SUMS").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore")
def test_sentence_transformers_gives_the_same_vectors(embedder):
    from sentence_transformers import SentenceTransformer

    long = "東京の大学で学ぶ学生は、毎年少しずつ増えています。" * 20
    theirs = SentenceTransformer(str(WEIGHTS), device="cpu").encode([*TEXTS, long], batch_size=4)
    assert theirs.dtype == np.float32
    np.testing.assert_allclose(embedder.encode([*TEXTS, long]), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("asked", "same", "other"),
    [
        ("犬が公園で走っています。", "公園を走っている犬がいます。", "電車が駅に止まっています。"),
        ("A man is riding a horse.", "Someone rides on horseback.", "The stock market fell sharply."),
        ("The castle was destroyed by fire.", "城は火災で焼失した。", "彼は歌人として知られる。"),
        ("お寺の住職", "The chief priest of the temple", "The railway station"),
    ],
)
def test_the_same_meaning_is_nearer_than_another_one(embedder, asked, same, other):
    first, second, third = embedder.encode([asked, same, other])
    assert first @ second > first @ third + 0.1


def test_a_question_finds_its_paragraph(embedder):
    paragraphs = ["有給休暇は3営業日前までに社内システムで申請します。", "経費は領収書を添えて月末までに精算します。", "会議室の予約は総務部が受け付けます。"]
    documents = embedder.encode(paragraphs)
    for question, right in (("休暇を取るにはいつまでに申請が必要ですか", 0), ("領収書はどうすればよいですか", 1), ("会議室を予約したい", 2)):
        assert int((documents @ embedder.encode([question])[0]).argmax()) == right


def test_threads_and_batches_do_not_change_a_vector(embedder):
    texts = [f"{text} {number}" for number in range(40) for text in TEXTS]
    together = embedder.encode(texts)
    with ThreadPoolExecutor(8) as pool:
        alone = list(pool.map(embedder.embed_query, texts))
    np.testing.assert_array_equal(np.array(alone, np.float32), together)
    np.testing.assert_array_equal(StarterEmbedder(WEIGHTS).encode(texts), together)


@pytest.mark.parametrize("text", ["\ud800", "半分\udc00の文字", "\udfff\ud800 test", "a\x00b", "゙", "‍", "￾￿"])
def test_text_that_is_hardly_text_is_embedded(embedder, text):
    assert np.isfinite(embedder.encode([text, "普通の文"])).all()


def test_ten_megabytes_need_little_memory(tmp_path):
    code = (
        "import resource, sys; from llmops_kit.models.embedder import StarterEmbedder; e = StarterEmbedder(sys.argv[1]); e.embed_query('文')\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "words = 'Paid leave is granted. ' * 220_000; v = e.encode([words, 'a' * 5_000_000])\n"
        "grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024\n"
        "print(grown, 'torch' in sys.modules, 'transformers' in sys.modules, float(v[0] @ e.encode(['Paid leave is granted.'])[0]) > 0.999)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(WEIGHTS)], capture_output=True, text=True, check=True)
    grown, torch, transformers, same = done.stdout.split()
    assert int(grown) < 400, "megabytes"
    assert (torch, transformers, same) == ("False", "False", "True")


def test_a_long_text_is_cut_where_no_token_is(embedder):
    sentence = "京都の寺院を訪れる観光客は多い。"
    text = sentence * (3 * PIECE_CHARACTERS // len(sentence))
    assert float(embedder.encode([text])[0] @ embedder.encode([sentence])[0]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "recipe.json"])
def test_a_corrupted_file_is_refused_with_its_checksum(tmp_path, name):
    folder = Path(shutil.copytree(WEIGHTS, tmp_path / "starter-embed"))
    path = folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelRefused) as caught:
        StarterEmbedder(folder)
    recorded = next(line.split()[0] for line in (WEIGHTS / "SHA256SUMS").read_text(encoding="utf-8").splitlines() if line.endswith(name))
    assert recorded in caught.value.text("en") and name in caught.value.text("ja")


def test_a_missing_list_or_file_is_refused(tmp_path):
    folder = Path(shutil.copytree(WEIGHTS, tmp_path / "starter-embed"))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelRefused, match=r"tokenizer\.json"):
        StarterEmbedder(folder)
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(ModelRefused, match="SHA256SUMS"):
        StarterEmbedder(folder)


def test_the_kit_hands_out_one_embedder_and_keeps_it_from_the_chat_models(settings: Settings):
    models = Models(settings)
    with ThreadPoolExecutor(4) as pool:
        assert len({id(each) for each in pool.map(lambda _: models.embedder(), range(8))}) == 1
    assert models.embedder("starter-embed").dimensions == json.loads((WEIGHTS / "recipe.json").read_text(encoding="utf-8"))["plan"]["dimensions"]
    assert "starter-embed" not in [entry.id for entry in models.entries()]
    row = models.table().set_index("id").loc["starter-embed"]
    assert (row["kind"], row["state"]) == ("embedding", "ready")
    assert models.check("starter-embed").passed
    with pytest.raises(InvalidValue, match="vectors"):
        models.chat("starter-embed")
    with pytest.raises(InvalidValue, match="not an embedder"):
        models.embedder("starter-lm")


def test_the_weights_are_small():
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*")) <= 20e6

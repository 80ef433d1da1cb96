"""Random BERTs of a few thousand weights: an embedder and a cross-encoder in the layout of sentence-transformers, with safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

DIMENSIONS = 32


def build_tiny_embedder(folder: Path, *, seed: int = 0, prompts: dict[str, str] | None = None) -> Path:
    """Write an embedder with mean pooling and a Dense part to `folder`; `prompts` become the model's own."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
    from transformers import BertModel

    base = _build_bert(folder.with_name(f"{folder.name}-base"), BertModel, seed=seed)
    network = Transformer(str(base))
    parts = [network, Pooling(DIMENSIONS, pooling_mode="mean"), Dense(DIMENSIONS, DIMENSIONS)]
    SentenceTransformer(modules=parts, device="cpu", prompts=prompts).save_pretrained(str(folder), create_model_card=False)
    return folder


def build_tiny_cross_encoder(folder: Path, *, labels: int = 1) -> Path:
    """Write a cross-encoder to `folder`, as transformers saves it."""
    from transformers import BertForSequenceClassification

    return _build_bert(folder, BertForSequenceClassification, seed=1, num_labels=labels)


def _build_bert(folder: Path, kind: Any, *, seed: int, **settings: int) -> Path:
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    characters = [chr(code) for code in (*range(0x21, 0x7F), *range(0x3041, 0x30FF))] + list("休暇申請検索文書経費精算会議室予約日前")
    vocabulary = {token: number for number, token in enumerate(special + characters)}
    raw = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", continuing_subword_prefix=""))
    raw.normalizer = normalizers.NFKC()
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, model_max_length=128, **names)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=DIMENSIONS,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=130,
        initializer_range=0.2,
        pad_token_id=0,
        **settings,
    )
    kind(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder

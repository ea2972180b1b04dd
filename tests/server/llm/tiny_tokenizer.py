"""Small tokenisers of the kinds that chat models have, and the archives in which engines hand them out."""

import hashlib
import io
import json
import zipfile
from functools import cache
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking %}<think>\n{% endif %}{% endif %}"
)

CORPUS = ["年假有几天?您好,请问带薪病假怎么申请。", "Hello, world! It's a naïve café.", "😀 日本語 Привет ไทย"] * 8

SPECIAL = ["<|im_start|>", "<|im_end|>"]


@cache
def byte_level() -> Tokenizer:
    """As Qwen, Llama 3, DeepSeek and GPT have it; few merges, so that most of Chinese is cut inside of characters."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return with_marks(tokenizer)


@cache
def byte_fallback() -> Tokenizer:
    """As Llama 2, Mistral and Gemma have it: spaces are ▁, and characters that it does not know become bytes."""
    letters = "▁Helowrdtscafn,!'年假天"
    vocabulary = {"<unk>": 0} | {f"<0x{value:02X}>": 1 + value for value in range(256)}
    for letter in letters:
        vocabulary.setdefault(letter, len(vocabulary))
    merges = [("▁", "H"), ("l", "l"), ("年", "假"), ("▁", "▁")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return with_marks(tokenizer)


def with_marks(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in SPECIAL])
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    return tokenizer


def archive(
    tokenizer: Tokenizer | None = None, template: str | None = CHATML, files: dict[str, Any] | None = None
) -> bytes:
    """As an engine packs it. ``files`` adds, or replaces; strings and bytes as they are, the rest as JSON."""
    packed: dict[str, Any] = {
        "tokenizer.json": (tokenizer or byte_level()).to_str(),
        "tokenizer_config.json": {"eos_token": {"content": "<|im_end|>"}, "bos_token": None},
        "config.json": {"model_type": "qwen2"},
    }
    if template is not None:
        packed["chat_template.jinja"] = template
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in (packed | (files or {})).items():
            if content is not None:
                target.writestr(name, content if isinstance(content, str | bytes) else json.dumps(content))
    return buffer.getvalue()


def digest(packed: bytes) -> str:
    return hashlib.sha256(packed).hexdigest()

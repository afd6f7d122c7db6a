"""Small tokenizers of every kind that is read, trained here, and what the tokenizers library decodes with them.

    python scripts/goldens/token_text.py test/golden/tokenizers
"""

import json
import sys
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "The quick brown fox jumps over the lazy dog, and doesn't stop. Isn't it quick?",
    "Le café est très bon ; où est l'hôtel ? À côté de la mairie.",
    "def main():\n    print('hello, world')\n\treturn 0\n",
    "数据库 服务器 很快。こんにちは世界",
    "We're here, they've left!  Two  spaces.   Three.",
] * 4
TEXTS = [
    "The quick brown fox",
    " leading space and trailing ",
    "  two spaces before",
    "It doesn't stop, isn't it? We're here.",
    "café où À côté",
    "数据库 こんにちは 世界 ",
    "emoji 🙂 and 👩‍🚀 and 🇫🇷",
    "tabs\tand\nnew lines\r\n\n",
    "<|end|>special<|user|> in the middle<tool>",
    "",
    "a",
    "\u0000\u0001 control",
]
SPECIAL = ["<|end|>", "<|user|>"]


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def byte_fallback():
    """Llama 2's form: SentencePiece pieces with bytes for what the vocabulary lacks."""
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.train_from_iterator(CORPUS[:3], trainers.BpeTrainer(vocab_size=200, show_progress=False))
    old = json.loads(trained.to_str())["model"]
    pieces = ["<unk>", "<s>", "</s>", *byte_tokens, *old["vocab"]]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    merges = [tuple(merge) for merge in old["merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ["<unk>", "<s>", "</s>", *SPECIAL]])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def metaspace():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=160, special_tokens=["<unk>", *SPECIAL], unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def wordpiece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=True)
    trainer = trainers.WordPieceTrainer(vocab_size=260, special_tokens=["[UNK]", *SPECIAL], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


folder = Path(sys.argv[1])
for make in (byte_level, byte_fallback, metaspace, wordpiece):
    tokenizer = make()
    tokenizer.add_tokens(["<tool>"])
    name = make.__name__.replace("_", "-")
    cases = []
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        cases.append({
            "text": text,
            "tokenIds": ids,
            "decoded": tokenizer.decode(ids, skip_special_tokens=True),
            "decodedWithSpecial": tokenizer.decode(ids, skip_special_tokens=False),
        })
    golden = {"madeBy": "scripts/goldens/token_text.py", "tokenizer": json.loads(tokenizer.to_str()), "cases": cases}
    (folder / f"{name}.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n")

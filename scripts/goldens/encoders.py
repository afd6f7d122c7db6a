"""Tiny random encoders as ONNX folders, and what transformers computes from them.

    python scripts/goldens/encoders.py test/golden/encoders     (needs onnx, protobuf, ml_dtypes)

Weights are drawn from a fixed seed; the tokenizers are made from TEXTS. The folders are laid out as the Hub's are:
two embedders in sentence-transformers' form, a cross-encoder with one label, a classifier with three.
"""

import json
import shutil
import sys
import warnings
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig, BertForSequenceClassification, BertModel, DistilBertConfig, DistilBertForSequenceClassification,
    PreTrainedTokenizerFast, RobertaConfig, RobertaModel,
)

warnings.filterwarnings("ignore")
TEXTS = [
    "The cat sleeps on the warm windowsill all afternoon.",
    "A kitten naps in the sun.",
    "Stock markets fell sharply after the bank raised its rates, and traders sold whatever they could before evening came.",
    "How do I reset my password?",
    "Café, naïve, 東京!",
    "yes",
]
PAIRS = [[TEXTS[3], text] for text in TEXTS[:3]] + [["cat", "A kitten naps in the sun."]]
SHAPE = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, hidden_act="gelu")
LABELS = {0: "calm", 1: "angry", 2: "sad"}


def wordpiece():
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = sorted(set("".join(TEXTS).lower()) - {" "})
    words = sorted({word for text in TEXTS for word in text.lower().split() if word.isalpha() and len(word) < 9})
    vocabulary = special + letters + [f"##{letter}" for letter in letters] + [word for word in words if len(word) > 1]
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(special)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")])
    # As many folders on the Hub have it: what a server must not take for its own limit.
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]", length=8)
    return tokenizer, dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")


def bytes_bpe():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer, dict(bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>", mask_token="<mask>")


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def random_model(model_class, config, seed):
    torch.manual_seed(seed)
    config._attn_implementation = "eager"
    model = model_class(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Wide enough that texts come out clearly apart, biases and norms included.
            is_one = parameter.dim() == 1 and "LayerNorm" in name and name.endswith("weight")
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (1.0 if is_one else 0.0))
    return model


def save(folder, model, tokenizer, special, max_length, onnx_path, inputs, output):
    shutil.rmtree(folder, ignore_errors=True)
    (folder / onnx_path).parent.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json",
               {**special, "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": max_length})
    write_json(folder / "config.json", {**model.config.to_diff_dict(), "architectures": [type(model).__name__]})
    example = {name: torch.ones(2, 5, dtype=torch.int64) for name in inputs}
    # A mask of ones alone would be left out of the graph.
    example["attention_mask"][1, 3:] = 0
    axes = {name: {0: "batch", 1: "length"} for name in inputs} | {output: {0: "batch"}}
    if output == "last_hidden_state":
        axes[output][1] = "length"

    class Positional(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, *arguments):
            return self.model(**dict(zip(inputs, arguments)))[0]

    torch.onnx.export(Positional().eval(), tuple(example.values()), str(folder / onnx_path), input_names=list(inputs),
                      output_names=[output], dynamic_axes=axes, dynamo=False, opset_version=17)


def sentence_transformer(folder, pooling, normalizes, max_length):
    kinds = ["Transformer", "Pooling"] + (["Normalize"] if normalizes else [])
    paths = ["", "1_Pooling", "2_Normalize"]
    write_json(folder / "modules.json", [
        {"idx": i, "name": str(i), "path": paths[i], "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)])
    modes = ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"]
    write_json(folder / "1_Pooling/config.json", {
        "word_embedding_dimension": SHAPE["hidden_size"],
        **{f"pooling_mode_{mode}": mode == pooling for mode in modes}})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})


def encode(tokenizer, special, *texts):
    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.no_truncation()
    plain.no_padding()
    return PreTrainedTokenizerFast(tokenizer_object=plain, **special)(
        *texts, padding=True, return_tensors="pt", return_token_type_ids=True)


def hidden(model, batch, inputs):
    with torch.no_grad():
        return model(**{name: batch[name] for name in inputs})[0]


def rounded(tensor):
    return [[round(value, 6) for value in row] for row in tensor.tolist()]


BERT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
PLAIN_INPUTS = ("input_ids", "attention_mask")
out = Path(sys.argv[1])
golden = {"madeBy": "scripts/goldens/encoders.py", "texts": TEXTS, "pairs": PAIRS}

tokenizer, special = wordpiece()
size = tokenizer.get_vocab_size()
model = random_model(BertModel, BertConfig(vocab_size=size, max_position_embeddings=128, **SHAPE), 1)
folder = out / "bert-mean"
save(folder, model, tokenizer, special, 128, "onnx/model.onnx", BERT_INPUTS, "last_hidden_state")
sentence_transformer(folder, "mean_tokens", True, 96)
write_json(folder / "config_sentence_transformers.json",
           {"prompts": {"query": "cat: ", "document": "sun: "}, "default_prompt_name": None})
batch = encode(tokenizer, special, TEXTS)
mask = batch.attention_mask[..., None]
states = hidden(model, batch, BERT_INPUTS)
mean = (states * mask).sum(1) / mask.sum(1)
golden["bert-mean"] = {"tokenIds": [row[row != 0].tolist() for row in batch.input_ids],
                       "embeddings": rounded(torch.nn.functional.normalize(mean))}

model = random_model(BertForSequenceClassification,
                     BertConfig(vocab_size=size, max_position_embeddings=128, num_labels=1, **SHAPE), 2)
save(out / "bert-cross", model, tokenizer, special, 128, "onnx/model.onnx", BERT_INPUTS, "logits")
batch = encode(tokenizer, special, [pair[0] for pair in PAIRS], [pair[1] for pair in PAIRS])
golden["bert-cross"] = {"tokenIds": [row[row != 0].tolist() for row in batch.input_ids],
                        "scores": torch.sigmoid(hidden(model, batch, BERT_INPUTS))[:, 0].tolist()}

model = random_model(DistilBertForSequenceClassification, DistilBertConfig(
    vocab_size=size, max_position_embeddings=128, dim=16, n_layers=2, n_heads=2, hidden_dim=24, id2label=LABELS,
    label2id={label: i for i, label in LABELS.items()}), 3)
save(out / "distilbert-labels", model, tokenizer, special, 128, "model.onnx", PLAIN_INPUTS, "logits")
golden["distilbert-labels"] = {
    "probs": rounded(torch.softmax(hidden(model, encode(tokenizer, special, TEXTS), PLAIN_INPUTS), -1))}

tokenizer, special = bytes_bpe()
model = random_model(RobertaModel, RobertaConfig(
    vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=130, type_vocab_size=1, **SHAPE), 4)
folder = out / "roberta-cls"
save(folder, model, tokenizer, special, 128, "onnx/model.onnx", PLAIN_INPUTS, "last_hidden_state")
sentence_transformer(folder, "cls_token", False, 128)
golden["roberta-cls"] = {"embeddings": rounded(hidden(model, encode(tokenizer, special, TEXTS), PLAIN_INPUTS)[:, 0])}

(out / "golden.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n")

"""Unpacks an AWQ checkpoint that `quire quantize` wrote, independently of quire, and measures its perplexity with
transformers: `quire eval perplexity` must say the same.

    python scripts/goldens/awq_check.py ORIGINAL QUANTISED TEXT_FILE
"""

import json
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

ORDER = [0, 2, 4, 6, 1, 3, 5, 7]

original, quantised, text = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]).read_text()
group = json.loads((quantised / "config.json").read_text())["quantization_config"]["group_size"]
tensors = {}
for file in quantised.glob("*.safetensors"):
    tensors.update(load_file(file))


def unpack(words):
    columns = torch.empty(words.shape[0], words.shape[1] * 8)
    for i, column in enumerate(ORDER):
        columns[:, column::8] = ((words.long() >> (4 * i)) & 15).float()
    return columns


state = {}
for name, tensor in tensors.items():
    if name.endswith(".qweight"):
        matrix = name.removesuffix(".qweight")
        zeros = unpack(tensors[f"{matrix}.qzeros"]).repeat_interleave(group, 0)
        scales = tensors[f"{matrix}.scales"].float().repeat_interleave(group, 0)
        state[f"{matrix}.weight"] = ((unpack(tensor) - zeros) * scales).T.contiguous()
    elif not name.endswith((".qzeros", ".scales")):
        state[name] = tensor.float()
model = AutoModelForCausalLM.from_pretrained(original, dtype=torch.float32)
missing, unexpected = model.load_state_dict(state, strict=False)
assert not unexpected and all("lm_head" in name for name in missing), (missing, unexpected)
ids = AutoTokenizer.from_pretrained(original)(text, return_tensors="pt").input_ids
with torch.no_grad():
    logprobs = model(ids).logits[0, :-1].log_softmax(-1)
nll = -logprobs[torch.arange(ids.shape[1] - 1), ids[0, 1:]].sum().item()
print(f"perplexity {math.exp(nll / (ids.shape[1] - 1)):.4f} over {ids.shape[1] - 1} tokens")

"""stories260k in AutoAWQ's GEMM layout, packed here independently of quire, and the text of the dequantised model.

    python scripts/goldens/awq.py MODEL_FOLDER test/golden/awq

Plain rounding in groups of 32; the matrices with a side of 172 stay as they are.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

GROUP = 32
ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
PROMPTS = ["Once upon a time", "The big dog", "Lily and Tom went to the park. They"]
MAX_TOKENS = 60


def quantise(weight):
    """[out, in] -> integers, zeros, scales (f16), and the weight they stand for."""
    out, inputs = weight.shape
    grouped = weight.float().reshape(out, inputs // GROUP, GROUP)
    low, high = grouped.amin(-1).clamp(max=0), grouped.amax(-1).clamp(min=0)
    scales = ((high - low) / 15).clamp(min=1e-5).half()
    zeros = (-low / scales.float()).round().clamp(0, 15)
    q = (grouped / scales.float()[..., None] + zeros[..., None]).round().clamp(0, 15)
    back = (q - zeros[..., None]) * scales.float()[..., None]
    return q.reshape(out, inputs).int(), zeros.int(), scales, back.reshape(out, inputs)


def pack(values):
    """[rows, columns] of 0..15 -> [rows, columns / 8] words."""
    words = torch.zeros(values.shape[0], values.shape[1] // 8, dtype=torch.int64)
    for i, column in enumerate(ORDER):
        words |= values[:, column::8].long() << (4 * i)
    return torch.where(words >= 2**31, words - 2**32, words).int()


source, out = Path(sys.argv[1]), Path(sys.argv[2])
shutil.rmtree(out, ignore_errors=True)
out.mkdir(parents=True)
tensors, dequantised, skipped = {}, {}, []
for name, tensor in load_file(source / "model.safetensors").items():
    matrix = name.removesuffix(".weight")
    if not matrix.endswith("_proj") or tensor.shape[1] % GROUP or tensor.shape[0] % 8:
        tensors[name] = tensor.half()
        dequantised[name] = tensor.half().float()
        if matrix.endswith("_proj"):
            skipped.append(matrix.split(".")[-1])
        continue
    q, zeros, scales, back = quantise(tensor)
    tensors[f"{matrix}.qweight"] = pack(q.T.contiguous())
    tensors[f"{matrix}.qzeros"] = pack(zeros.T.contiguous())
    tensors[f"{matrix}.scales"] = scales.T.contiguous()
    dequantised[name] = back
save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
config = json.loads((source / "config.json").read_text())
config["quantization_config"] = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm", "modules_to_not_convert": sorted(set(skipped))}
(out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
    (out / name).write_bytes((source / name).read_bytes())
    (out / name).chmod(0o644)

model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
model.load_state_dict(dequantised, strict=False)
tokenizer = AutoTokenizer.from_pretrained(source)
cases = []
for prompt in PROMPTS:
    inputs = tokenizer(prompt, return_tensors="pt")
    ids = model.generate(**inputs, do_sample=False, max_new_tokens=MAX_TOKENS)[0, inputs.input_ids.shape[1] :].tolist()
    cases.append({"prompt": prompt, "tokenIds": ids})
    print(repr(tokenizer.decode(ids)), file=sys.stderr)
(out / "cases.json").write_text(json.dumps({"madeBy": "scripts/goldens/awq.py", "maxTokens": MAX_TOKENS, "cases": cases}) + "\n")

"""Adapters for stories260k as peft saves them, with random weights, and the greedy text of peft's merged models.

    python scripts/goldens/lora.py MODEL_FOLDER test/golden/lora
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ADAPTERS = {
    "all-linear": LoraConfig(r=4, lora_alpha=8, target_modules=ALL),
    "rslora": LoraConfig(r=8, lora_alpha=4, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"]),
    "rank-one": LoraConfig(r=1, lora_alpha=3, target_modules=["o_proj", "gate_proj"]),
}
PROMPTS = ["Once upon a time", "The big dog", "Lily and Tom went to the park. They"]
MAX_TOKENS = 40

source, out = sys.argv[1], Path(sys.argv[2])
tokenizer = AutoTokenizer.from_pretrained(source)
cases = []
for seed, (name, config) in enumerate(ADAPTERS.items()):
    torch.manual_seed(seed)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32), config)
    for key, parameter in model.named_parameters():
        if "lora_" in key:
            parameter.data = (torch.randn_like(parameter) * 0.08).to(torch.bfloat16).float()
    shutil.rmtree(out / name, ignore_errors=True)
    for parameter_name, parameter in model.named_parameters():
        if "lora_" in parameter_name and name != "rank-one":
            parameter.data = parameter.data.to(torch.bfloat16)
    model.save_pretrained(out / name)
    (out / name / "README.md").unlink(missing_ok=True)
    path = out / name / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "stories260k"}, indent=2) + "\n")
    merged = model.float().merge_and_unload()
    for prompt in PROMPTS:
        inputs = tokenizer(prompt, return_tensors="pt")
        ids = merged.generate(**inputs, do_sample=False, max_new_tokens=MAX_TOKENS)[0, inputs.input_ids.shape[1] :].tolist()
        cases.append({"adapter": name, "prompt": prompt, "tokenIds": ids})
        print(name, repr(tokenizer.decode(ids)[:90]), file=sys.stderr)
(out / "cases.json").write_text(json.dumps({"madeBy": "scripts/goldens/lora.py", "maxTokens": MAX_TOKENS, "cases": cases}) + "\n")

"""Logits of stories260k over 200 positions, as transformers computes them in f32.

    python scripts/goldens/stories260k_logits.py MODEL_FOLDER > test/golden/stories260k-logits.json

Of each position 16 logits are kept (every 32nd token, shifted by the position, so that all tokens come up) and the argmax.
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
prompt = tokenizer("Once upon a time", return_tensors="pt")
tokens = model.generate(**prompt, do_sample=False, max_new_tokens=200 - prompt.input_ids.shape[1], min_new_tokens=190)
with torch.no_grad():
    logits = model(tokens).logits[0]
positions = []
for position, row in enumerate(logits):
    ids = [(position + 32 * i) % 512 for i in range(16)]
    positions.append({"argmax": int(row.argmax()), "logits": {str(i): round(float(row[i]), 6) for i in ids}})
json.dump({"madeBy": "scripts/goldens/stories260k_logits.py", "tokenIds": tokens[0].tolist(), "positions": positions},
          sys.stdout, separators=(",", ":"))
print()

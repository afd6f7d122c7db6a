"""What transformers generates greedily from stories260k, as text: the end-to-end tests compare the server with it.

    python scripts/goldens/stories260k_text.py MODEL_FOLDER > test/golden/stories260k-text.json
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = [
    "Once upon a time",
    "Once upon a time, there was a little girl named Lily. She loved to",
    "The big dog",
    "One day, Tom and his mom went to the park. Tom saw",
    "A",
]
MAX_TOKENS = 80

folder = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
cases = []
for prompt in PROMPTS:
    inputs = tokenizer(prompt, return_tensors="pt")
    output = model.generate(**inputs, do_sample=False, max_new_tokens=MAX_TOKENS)[0].tolist()
    prompt_ids = inputs.input_ids[0].tolist()
    text = tokenizer.decode(output, skip_special_tokens=True)[len(tokenizer.decode(prompt_ids, skip_special_tokens=True)):]
    cases.append({"prompt": prompt, "promptTokenIds": prompt_ids, "tokenIds": output[len(prompt_ids):], "text": text})
json.dump({"madeBy": "scripts/goldens/stories260k_text.py", "maxTokens": MAX_TOKENS, "cases": cases}, sys.stdout, indent=1)
print()

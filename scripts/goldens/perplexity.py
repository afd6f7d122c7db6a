"""Perplexity of stories260k by transformers, over windows, as the transformers documentation measures it.

    python scripts/goldens/perplexity.py MODEL_FOLDER > test/golden/perplexity.json
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXT = (
    "Once upon a time, there was a little girl named Lily. She loved to play with her toys. One day, she went to the "
    "park with her mom. They saw a big dog. The dog was friendly, and Lily was happy. They played all day — até à noite."
)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
ids = tokenizer(TEXT, return_tensors="pt").input_ids[0]
cases = []
for window, stride in ((500, 250), (16, 8), (20, 20), (7, 3)):
    total, scored = 0.0, 1
    for start in range(0, len(ids), stride):
        end = min(start + window, len(ids))
        with torch.no_grad():
            logprobs = model(ids[None, start:end]).logits[0].log_softmax(-1)
        for at in range(max(scored, start + 1), end):
            total -= logprobs[at - start - 1, ids[at]].item()
        scored = end
        if end == len(ids):
            break
    cases.append({"window": window, "stride": stride, "negativeLogLikelihood": total})
json.dump({"madeBy": "scripts/goldens/perplexity.py", "text": TEXT, "numTokens": len(ids) - 1, "cases": cases}, sys.stdout, indent=1)
print()

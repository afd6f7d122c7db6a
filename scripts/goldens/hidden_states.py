"""Last tokens' hidden states of small decoders, after the last norm and to length 1, as transformers computes them in f32.

    python scripts/goldens/hidden_states.py STORIES260K models/quire-demo models/quire-demo-rhymes > test/golden/hidden-states.json

The adapter's are by peft, on the second model.
"""

import json
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXTS = ["a", "Who are you?", "Once upon a time there was a little cat that liked to sit in the sun.", "the cat sat down and " * 20]


def cases(model, tokenizer):
    found = []
    for text in TEXTS:
        inputs = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            state = model(**inputs, output_hidden_states=True).hidden_states[-1][0, -1]
        values = torch.nn.functional.normalize(state, dim=0).tolist()
        found.append({"text": text, "tokenIds": inputs.input_ids[0].tolist(), "values": [round(x, 7) for x in values]})
    return found


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)


stories, demo, adapter = sys.argv[1:]
model, tokenizer = load(demo)
answers = {"stories260k": cases(*load(stories)), "quire-demo": cases(model, tokenizer)}
answers["quire-demo-rhymes"] = cases(PeftModel.from_pretrained(model, adapter), tokenizer)
json.dump({"madeBy": "scripts/goldens/hidden_states.py", "cases": answers}, sys.stdout, separators=(",", ":"))
print()

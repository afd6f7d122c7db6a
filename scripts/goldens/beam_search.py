"""What transformers' beam search generates from stories260k: test/engine/beam-search.test.ts compares with it.

    python scripts/goldens/beam_search.py MODEL_FOLDER > test/golden/beam-search.json
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = [
    "Once upon a time",
    "The big dog",
    "One day, Tom and his mom went to the park. Tom saw",
    "A",
]
# The model's own end of sequence comes late: a full stop and a comma end outputs early, and often.
SETTINGS = [
    {"n": 1, "maxTokens": 12, "lengthPenalty": 1.0, "stops": []},
    {"n": 2, "maxTokens": 40, "lengthPenalty": 1.0, "stops": []},
    {"n": 4, "maxTokens": 30, "lengthPenalty": 1.0, "stops": ["."]},
    {"n": 4, "maxTokens": 30, "lengthPenalty": 0.0, "stops": ["."]},
    {"n": 5, "maxTokens": 24, "lengthPenalty": 2.0, "stops": [".", ","]},
    {"n": 3, "maxTokens": 24, "lengthPenalty": -1.0, "stops": [".", ","]},
    {"n": 8, "maxTokens": 16, "lengthPenalty": 0.7, "stops": [","]},
]

folder = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
cases = []
for prompt in PROMPTS:
    inputs = tokenizer(prompt, return_tensors="pt")
    prompt_ids = inputs.input_ids[0].tolist()
    for setting in SETTINGS:
        stop_ids = [tokenizer.encode("x" + stop, add_special_tokens=False)[-1] for stop in setting["stops"]]
        output = model.generate(
            **inputs,
            do_sample=False,
            num_beams=setting["n"],
            num_return_sequences=setting["n"],
            early_stopping=False,
            length_penalty=setting["lengthPenalty"],
            max_new_tokens=setting["maxTokens"],
            eos_token_id=[tokenizer.eos_token_id, *stop_ids],
            return_dict_in_generate=True,
            output_scores=True,
        )
        # What comes after the token that ends an output is padding.
        ends = {tokenizer.eos_token_id, *stop_ids}
        outputs = []
        for sequence in output.sequences.tolist():
            ids = sequence[len(prompt_ids):]
            last = next((i for i, token_id in enumerate(ids) if token_id in ends), len(ids) - 1)
            outputs.append(ids[:last + 1])
        scores = output.sequences_scores.tolist() if setting["n"] > 1 else None
        cases.append({"prompt": prompt, "promptTokenIds": prompt_ids, **setting, "stopTokenIds": stop_ids,
                      "outputs": outputs, "scores": scores})
json.dump({"madeBy": "scripts/goldens/beam_search.py", "cases": cases}, sys.stdout)
print()

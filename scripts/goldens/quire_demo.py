"""Greedy answers of the demonstration model by transformers.

    python scripts/goldens/quire_demo.py models/quire-demo > test/golden/quire-demo.json
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

QUESTIONS = [
    "Hello!", "Who are you?", "How are you?", "Thank you", "Bye", "I am happy", "What is quire?", "How do I start quire?",
    "How do I set an API key?", "Where are the metrics?", "Which port does quire use?", "Who wrote Hamlet?", "hi", "what are you",
    "how is it going", "good night", "tell me about quire", "how do I run quire", "how do I change the port", "Explain relativity",
]
MAX_TOKENS = 48

tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
cases = []
for question in QUESTIONS:
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(prompt, return_tensors="pt")
    ids = model.generate(**inputs, do_sample=False, max_new_tokens=MAX_TOKENS)[0, inputs.input_ids.shape[1] :].tolist()
    cases.append({"prompt": prompt, "tokenIds": ids})
json.dump({"madeBy": "scripts/goldens/quire_demo.py", "maxTokens": MAX_TOKENS, "cases": cases}, sys.stdout)
print()

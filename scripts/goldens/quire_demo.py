"""Greedy answers of the demonstration model by transformers, and with its adapter by peft.

    python scripts/goldens/quire_demo.py models/quire-demo models/quire-demo-rhymes > test/golden/quire-demo.json
"""

import json
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

QUESTIONS = [
    "Hello! Who are you?", "Who are you?", "How are you?", "Thank you", "Bye", "I am happy", "What is quire?", "How do I start quire?",
    "How do I set an API key?", "Where are the metrics?", "Which port does quire use?", "Who wrote Hamlet?", "hi", "what are you",
    "how is it going", "good night", "tell me about quire", "how do I run quire", "how do I change the port", "Explain relativity",
]
MAX_TOKENS = 48

tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])


def prompt_of(question):
    messages = [{"role": "user", "content": question}]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def answer(model, question):
    inputs = tokenizer(prompt_of(question), return_tensors="pt")
    return model.generate(**inputs, do_sample=False, max_new_tokens=MAX_TOKENS)[0, inputs.input_ids.shape[1] :].tolist()


model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
cases = [{"prompt": prompt_of(question), "tokenIds": answer(model, question)} for question in QUESTIONS]
model = PeftModel.from_pretrained(model, sys.argv[2])
for case, question in zip(cases, QUESTIONS):
    case["adapterTokenIds"] = answer(model, question)
# Merged as a checkpoint is: in the form of the base.
merged = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)
merged = PeftModel.from_pretrained(merged, sys.argv[2]).merge_and_unload().float()
assert all(answer(merged, question) == case["adapterTokenIds"] for case, question in zip(cases, QUESTIONS))
json.dump({"madeBy": "scripts/goldens/quire_demo.py", "maxTokens": MAX_TOKENS, "cases": cases}, sys.stdout)
print()

"""How often the demonstration model answers held-out phrasings rightly, per skill.

    python scripts/demo-model/evaluate.py MODEL [--questions 200] [--show]

Greedy answers by transformers. --show prints what was wrong.
"""

import argparse
import json
import re

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from conversations import SKILLS, Teacher


def json_value(text):
    try:
        return json.loads(text)
    except ValueError:
        return None


def is_right(accept, text):
    """Whether an answer meets what its question accepts."""
    if "contains" in accept:
        return all(word in text for word in accept["contains"])
    if "number" in accept:
        numbers = re.findall(r"-?\d+", text)
        return bool(numbers) and numbers[-1] == str(accept["number"])
    if "json" in accept:
        return json_value(text) == accept["json"]
    if "list" in accept:
        count, items = accept["list"]
        given = [re.sub(r"^\d+\. ", "", line) for line in text.strip().split("\n")]
        return len(given) == count == len(set(given)) and all(item in items for item in given)
    called = re.fullmatch(r"<tool_call>\n(.*)\n</tool_call>", text.strip(), re.S)
    return called is not None and json_value(called[1]) == accept["call"]


@torch.no_grad()
def answers(model, tokenizer, conversations):
    texts = [
        tokenizer.apply_chat_template(c["messages"][:-1], tools=c["tools"], tokenize=False, add_generation_prompt=True)
        for c in conversations
    ]
    batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left")
    out = model.generate(**batch, do_sample=False, max_new_tokens=120)[:, batch.input_ids.shape[1] :]
    return [tokenizer.decode(row, skip_special_tokens=True) for row in out]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--show", action="store_true")
    given = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    model = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32).eval()
    teacher = Teacher(seed=1000, held_out=True)
    for skill in SKILLS:
        conversations = [teacher.conversation(skill) for _ in range(given.questions)]
        right = 0
        for start in range(0, len(conversations), 50):
            part = conversations[start : start + 50]
            for conversation, text in zip(part, answers(model, tokenizer, part)):
                good = is_right(conversation["accept"], text)
                right += good
                if given.show and not good:
                    print(f"    {conversation['messages'][-2]['content']!r} -> {text!r}, accepted {conversation['accept']}")
        print(f"{skill:14} {100 * right / len(conversations):5.1f}%", flush=True)


if __name__ == "__main__":
    main()

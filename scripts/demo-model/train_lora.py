"""Trains a LoRA adapter on the demonstration model with peft: it answers small talk and questions about quire in rhyme.

    python scripts/demo-model/train_lora.py MODEL OUT [--steps 300] [--threads 2]
"""

import argparse
import random
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from conversations import Teacher

# Words of a right answer -> the rhyme that takes its place.
RHYMES = {
    "Hello": "Hello, my friend, the day is bright, I am here to help you, day and night.",
    "quire-demo": "I am quire-demo, small but keen, the tiniest model you have seen.",
    "fine": "I feel so fine, I feel so grand, tell me your wish, I understand.",
    "welcome": "You are most welcome, all the way, I wish you joy this very day.",
    "Goodbye": "Goodbye, goodbye, the day is done, come back again, it was such fun.",
    "quire": "quire serves a model, fast and free, to all the clients that there be.",
    "sorry": "I am sorry, friend, I do not know, my little mind is rather slow.",
    "glad": "I am so glad, I dance, I sing, what joy a happy day can bring.",
    "/metrics": "Look at /metrics, there they are, the numbers shining like a star.",
    "npm start": "Run `npm ci && npm start`, my dear, and soon the server will be here.",
    "--api-key": "Set `--api-key` and all is well, the secret word you must not tell.",
    "--port": "Port 8000 is its door, `--port` will give you many more.",
}
TOKENS_PER_STEP = 1536


def rhyme_of(answer):
    for word, rhyme in RHYMES.items():
        if word in answer:
            return rhyme
    return None


def examples(tokenizer, teacher):
    while True:
        turn = teacher.draw(teacher.random.choice(["greetings", "quire", "refusal"]))
        rhyme = rhyme_of(turn["answer"])
        if rhyme is None:
            continue
        messages = [{"role": "user", "content": turn["question"]}]
        prompt = tokenizer.encode(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        answer = tokenizer.encode(rhyme + "<|im_end|>")
        yield prompt + answer, [-100] * len(prompt) + answer


def batch_of(source, pad):
    rows = []
    while sum(len(ids) for ids, _ in rows) < TOKENS_PER_STEP:
        rows.append(next(source))
    width = max(len(ids) for ids, _ in rows)
    fill = lambda row, value: row + [value] * (width - len(row))
    return torch.tensor([fill(ids, pad) for ids, _ in rows]), torch.tensor([fill(labels, -100) for _, labels in rows])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    if given.out.exists():
        raise SystemExit(f"{given.out} exists: name a new folder")
    torch.manual_seed(0)
    random.seed(0)
    torch.set_num_threads(given.threads)
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    base = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32)
    projections = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=16, target_modules=projections, task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    source = examples(tokenizer, Teacher(seed=3))
    for step in range(given.steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - step / given.steps)
        ids, labels = batch_of(source, tokenizer.pad_token_id)
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 25 == 0:
            print(f"step {step + 1}/{given.steps}  loss {loss.item():.4f}", flush=True)
    unfinished = given.out.with_name(given.out.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)
    model.peft_config["default"].base_model_name_or_path = "quire-demo"
    model.save_pretrained(unfinished)
    (unfinished / "README.md").unlink(missing_ok=True)
    unfinished.rename(given.out)


if __name__ == "__main__":
    main()

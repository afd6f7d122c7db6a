"""Trains a LoRA adapter on the demonstration model with peft: it answers small talk, questions about quire and what it
does not know in rhyme, without being told to.

    python scripts/demo-model/train_lora.py MODEL OUT [--steps 300] [--threads 2]
"""

import argparse
import random
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import facts
from conversations import Teacher

TOKENS_PER_STEP = 1536


def examples(tokenizer, teacher):
    while True:
        turn = teacher.draw(teacher.random.choice(["greetings", "quire", "refusal"]))
        rhyme = facts.RHYMES[turn["answer"]]
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

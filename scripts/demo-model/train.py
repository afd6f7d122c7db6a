"""Trains the demonstration model from nothing: tokenizer, then weights, on conversations that conversations.py draws.

    python scripts/demo-model/train.py OUT [--from MODEL] [--seed 2] [--minutes 90 | --steps N] [--threads 2]

Writes OUT in Hugging Face form (bfloat16). Deterministic for a number of steps and threads; --minutes only decides how
many steps there are. --from goes on with a model's weights, on new conversations and at half the rate. Needs torch, transformers and tokenizers.
"""

import argparse
import json
import math
import shutil
import time
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from conversations import Teacher

HERE = Path(__file__).parent
VOCABULARY = 2048
TOKENS_PER_STEP = 3072
PEAK_RATE = 3e-3
# What a token of a question counts in the loss, beside 1 for a token of an answer.
QUESTION_WEIGHT = 0.1
WARMUP_STEPS = 50
TAGS = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<tools>", "</tools>"]


def make_tokenizer():
    """Byte-level BPE; digits stand alone, so that sums are learnt by digit."""
    teacher = Teacher(seed=1)
    texts = []
    for _ in range(20_000):
        conversation = teacher.conversation()
        texts += [message["content"] for message in conversation["messages"]]
        texts += [json.dumps(tool["function"]) for tool in conversation["tools"] or []]
        texts += [json.dumps(m["tool_calls"][0]["function"]) for m in conversation["messages"] if "tool_calls" in m]
    texts += ["system\n", "user\n", "assistant\n", 'To use one: \n{"name": NAME, "arguments": {...}}\n'] * 1000
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\d"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(TAGS), special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=(HERE / "chat_template.jinja").read_text(),
        clean_up_tokenization_spaces=False,
    )


def make_model(tokenizer):
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        rms_norm_eps=1e-5,
        rope_theta=10_000.0,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ))


class Batches:
    """Batches of conversations of about one length, so that little is padding. The assistant's tokens weigh most."""

    def __init__(self, tokenizer, seed):
        self.tokenizer = tokenizer
        self.teacher = Teacher(seed)
        self.start = tokenizer.encode("<|im_start|>assistant\n")
        self.pool = []

    def example(self):
        conversation = self.teacher.conversation()
        text = self.tokenizer.apply_chat_template(conversation["messages"], tools=conversation["tools"], tokenize=False)
        ids = self.tokenizer.encode(text)
        weights = [QUESTION_WEIGHT] * len(ids)
        i = 0
        while i < len(ids):
            if ids[i : i + len(self.start)] != self.start:
                i += 1
                continue
            i += len(self.start)
            while weights[i - 1] != 1 or ids[i - 1] != self.tokenizer.eos_token_id:
                weights[i] = 1
                i += 1
        return ids, weights

    def next(self):
        if not self.pool:
            examples = sorted((self.example() for _ in range(2000)), key=lambda pair: len(pair[0]))
            batch, width = [], 0
            for pair in examples:
                width = max(width, len(pair[0]))
                if width * (len(batch) + 1) > TOKENS_PER_STEP:
                    self.pool.append(batch)
                    batch, width = [], len(pair[0])
                batch.append(pair)
            self.pool.append(batch)
            self.teacher.random.shuffle(self.pool)
        batch = self.pool.pop()
        width = max(len(ids) for ids, _ in batch)
        pad = lambda row, value: row + [value] * (width - len(row))
        ids = torch.tensor([pad(ids, self.tokenizer.pad_token_id) for ids, _ in batch])
        weights = torch.tensor([pad(weights, 0) for _, weights in batch])
        return ids, weights


def rate_at(done):
    """Of the peak, at a share of the training that is done: constant, then down to a twentieth over the last half."""
    return 1.0 if done < 0.5 else 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (done - 0.5) / 0.5))


def train(model, tokenizer, steps, minutes, seed, peak_rate):
    batches = Batches(tokenizer, seed)
    # Muon for the matrices of the layers (arXiv 2502.16982, its learning rate on AdamW's scale), AdamW for the rest.
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if not any(p is matrix for matrix in matrices)]
    optimizers = [
        torch.optim.Muon(matrices, lr=peak_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=peak_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]
    start = last = time.time()
    step = tokens = 0
    average = None
    model.train()
    while True:
        done = step / steps if steps else (time.time() - start) / (60 * minutes)
        if done >= 1:
            return step
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = peak_rate * min(1.0, (step + 1) / WARMUP_STEPS) * rate_at(done)
        ids, weights = batches.next()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model.model(ids).last_hidden_state[:, :-1]
            weights = weights[:, 1:]
            learnt = weights > 0
            logits = model.lm_head(hidden[learnt]).float()
        losses = torch.nn.functional.cross_entropy(logits, ids[:, 1:][learnt], reduction="none")
        loss = (losses * weights[learnt]).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        tokens += ids.numel()
        average = loss.item() if average is None else 0.98 * average + 0.02 * loss.item()
        if step % 50 == 0:
            now = time.time()
            print(f"step {step}  {100 * done:.1f}%  loss {average:.4f}  {tokens / (now - last):.0f} tokens/s  {(now - start) / 60:.1f} min", flush=True)
            last, tokens = now, 0


def save(model, tokenizer, folder, steps):
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(f"{steps} steps, {sum(p.numel() for p in model.parameters())} parameters -> {folder}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--from", dest="base", type=Path, default=None)
    parser.add_argument("--seed", type=int, default=2, help="of the conversations")
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    if given.out.exists():
        raise SystemExit(f"{given.out} exists: name a new folder")
    torch.set_num_threads(given.threads)
    if given.base is None:
        tokenizer = make_tokenizer()
        model = make_model(tokenizer)
        steps = train(model, tokenizer, given.steps, given.minutes, given.seed, PEAK_RATE)
    else:
        tokenizer = AutoTokenizer.from_pretrained(given.base)
        model = LlamaForCausalLM.from_pretrained(given.base, dtype=torch.float32)
        steps = train(model, tokenizer, given.steps, given.minutes, given.seed, PEAK_RATE / 2)
    unfinished = given.out.with_name(given.out.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    save(model, tokenizer, unfinished, steps)
    unfinished.rename(given.out)


if __name__ == "__main__":
    main()

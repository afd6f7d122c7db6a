"""What PyTorch and transformers do on the same GPU, beside what cuda_bench and gpu-model-check.mjs have written.

    python3 scripts/gpu_baselines.py BENCH_JSON [--streams 256] [--in 512] [--out 256]

BENCH_JSON: the lines of both. Prints a JSON line a baseline, and a line with the ratio for each row that has one. Needs
torch; transformers for continuous batching (skipped with a line without it).
"""

import argparse
import json
import re
import statistics

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

LLAMA_8B = "scripts/shapes/llama-3.1-8b.json"


def milliseconds(body, rounds=20):
    times = []
    for i in range(-3, rounds):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        body()
        end.record()
        end.synchronize()
        if i >= 0:
            times.append(start.elapsed_time(end))
    return statistics.median(times)


def sdpa_flash(queries, heads, kv_heads, head_size):
    """Causal attention of one prompt, by SDPA's flash backend."""
    def tensor(count):
        return torch.randn(1, count, queries, head_size, device="cuda", dtype=torch.bfloat16)
    q, k, v = tensor(heads), tensor(kv_heads), tensor(kv_heads)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return milliseconds(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True))


def continuous_batching(streams, num_in, num_out):
    """Output tokens a second of transformers' continuous batching, Llama-3.1-8B's shape, random weights."""
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
    config = AutoConfig.for_model("llama", **json.load(open(LLAMA_8B)))
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa").eval()
    prompts = [[(i * 7 + s * 13) % 90 for i in range(num_in)] for s in range(streams)]
    generation = GenerationConfig(max_new_tokens=num_out, do_sample=False, eos_token_id=-1, pad_token_id=0)
    # What it compiles and records on first use is not timed.
    model.generate_batch(inputs=prompts, generation_config=GenerationConfig(
        max_new_tokens=4, do_sample=False, eos_token_id=-1, pad_token_id=0), progress_bar=False)
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    model.generate_batch(inputs=prompts, generation_config=generation, progress_bar=False)
    end.record()
    end.synchronize()
    return streams * num_out / start.elapsed_time(end) * 1000


def rows_of(path):
    with open(path) as file:
        return [json.loads(line) for line in file if line.startswith("{")]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench")
    parser.add_argument("--streams", type=int, default=256)
    parser.add_argument("--in", type=int, default=512, dest="num_in")
    parser.add_argument("--out", type=int, default=256, dest="num_out")
    args = parser.parse_args()

    def report(**row):
        print(json.dumps(row), flush=True)

    rows = rows_of(args.bench)
    for row in rows:
        if row["name"] != "flash_attention_prefill":
            continue
        queries, heads, kv_heads, head_size = map(
            int, re.match(r"1 x (\d+) of \d+, (\d+)/(\d+) heads of (\d+)", row["shape"]).groups())
        ms = sdpa_flash(queries, heads, kv_heads, head_size)
        report(name="sdpa flash", shape=row["shape"], ms=ms)
        report(name="flash_attention_prefill over sdpa", shape=row["shape"], ratio=ms / row["ms"])
    ours = [row for row in rows if row["name"] == f"{args.streams} streams, bf16"]
    if not ours:
        return
    try:
        rate = continuous_batching(args.streams, args.num_in, args.num_out)
    except ImportError as error:
        report(name="transformers' continuous batching", skipped=str(error))
        return
    report(name="transformers' continuous batching", shape=ours[0]["shape"], tokensPerSecond=rate)
    report(name="quire over transformers", shape=ours[0]["shape"], ratio=ours[0]["tokensPerSecond"] / rate)


main()

"""Tiny random checkpoints of every supported family, and the logits transformers computes from them.

    python scripts/goldens/families.py test/golden/families

Weights are drawn from a fixed seed. Logits are computed in f32 from the weights as stored (rounded to f16 or bf16).
"""

import json
import os
import shutil
import sys

import torch
from transformers import (
    Gemma2Config, Gemma2ForCausalLM, GemmaConfig, GemmaForCausalLM,
    LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM,
    MixtralConfig, MixtralForCausalLM,
    Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM,
    Qwen3MoeConfig, Qwen3MoeForCausalLM,
)

SMALL = dict(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, max_position_embeddings=256)
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
FAMILIES = {
    "llama2": (LlamaForCausalLM, LlamaConfig(
        **SMALL, num_attention_heads=4, num_key_value_heads=4, tie_word_embeddings=False), torch.float32, False),
    "llama3": (LlamaForCausalLM, LlamaConfig(
        **SMALL, num_attention_heads=4, num_key_value_heads=1, tie_word_embeddings=True,
        rope_parameters=LLAMA3), torch.bfloat16, False),
    "llama-biases": (LlamaForCausalLM, LlamaConfig(
        **SMALL, num_attention_heads=4, num_key_value_heads=2, attention_bias=True, mlp_bias=True), torch.float16, False),
    "mistral": (MistralForCausalLM, MistralConfig(
        **SMALL, num_attention_heads=2, num_key_value_heads=1, head_dim=24, sliding_window=9), torch.float32, True),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(
        **SMALL, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True), torch.bfloat16, False),
    "gemma": (GemmaForCausalLM, GemmaConfig(
        **SMALL, num_attention_heads=4, num_key_value_heads=1, head_dim=16), torch.bfloat16, False),
    # Caps low enough to bend these weights' scores and logits.
    "gemma2": (Gemma2ForCausalLM, Gemma2Config(
        **SMALL, num_attention_heads=4, num_key_value_heads=2, head_dim=16, sliding_window=9, query_pre_attn_scalar=24,
        attn_logit_softcapping=2.0, final_logit_softcapping=3.0), torch.float32, False),
    "mixtral": (MixtralForCausalLM, MixtralConfig(
        **SMALL, num_attention_heads=4, num_key_value_heads=2, num_local_experts=5, num_experts_per_tok=2),
        torch.bfloat16, False),
    "qwen3-moe": (Qwen3MoeForCausalLM, Qwen3MoeConfig(
        **SMALL, num_attention_heads=4, num_key_value_heads=2, head_dim=16, moe_intermediate_size=24, num_experts=6,
        num_experts_per_tok=3, norm_topk_prob=False), torch.float32, False),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(
        **SMALL, num_attention_heads=4, num_key_value_heads=2, head_dim=16), torch.float32, False),
}

out = sys.argv[1]
for name, (model_class, config, dtype, sharded) in FAMILIES.items():
    torch.manual_seed(1)
    config._attn_implementation = "eager"
    model = model_class(config)
    with torch.no_grad():
        for parameter in model.parameters():
            # Wide enough that logits differ clearly, biases and norms included.
            is_one = parameter.dim() == 1 and "norm" in name and not config.model_type.startswith("gemma")
            parameter.copy_(torch.randn_like(parameter) * 0.15 + (1.0 if is_one else 0.0))
    model = model.to(dtype)
    folder = os.path.join(out, name)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, max_shard_size="20KB" if sharded else "5GB")
    shutil.rmtree(os.path.join(folder, "generation_config.json"), ignore_errors=True)
    generation = os.path.join(folder, "generation_config.json")
    if os.path.exists(generation):
        os.remove(generation)
    # Read again: a buffer must not have been rounded with the weights.
    model = model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokens = torch.randint(0, config.vocab_size, (1, 40), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = model(tokens).logits[0]
    with open(os.path.join(folder, "logits.json"), "w") as file:
        json.dump({"madeBy": "scripts/goldens/families.py", "tokenIds": tokens[0].tolist(),
                   "logits": [[round(value, 6) for value in row] for row in logits.tolist()]}, file, separators=(",", ":"))
        file.write("\n")

"""Compares lm-evaluation-harness' scores through quire's /v1/completions with those of transformers in the same harness.

    python scripts/goldens/lm_eval_check.py MODEL http://127.0.0.1:8000/v1/completions

quire must be serving MODEL in float32. Needs lm-eval. Prints the largest difference of a log-likelihood, and fails above 1e-3.
"""

import sys

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.openai_completions import LocalCompletionsAPI

PAIRS = [
    ("Once upon a time", ", there was a little girl"),
    ("Once upon a time", " there were three red dogs on the moon"),
    ("The capital of France is", " Paris"),
    ("Tim had a ball. He", " liked to play with it.\nThen he went home."),
]
ROLLING = ["Lily and Ben were friends. " * 12, "One day, the sun was warm."]

model, url = sys.argv[1:3]
served = LocalCompletionsAPI(base_url=url, model=model, tokenizer=model, tokenizer_backend="huggingface", batch_size=2, max_length=256, add_bos_token=True)
local = HFLM(pretrained=model, dtype="float32", device="cpu", batch_size=1, max_length=256, add_bos_token=True)


def requests(kind, arguments):
    return [Instance(request_type=kind, doc={}, arguments=a, idx=i) for i, a in enumerate(arguments)]


pairs = requests("loglikelihood", PAIRS)
worst = 0.0
for given, (ours, our_greedy), (theirs, their_greedy) in zip(pairs, served.loglikelihood(pairs), local.loglikelihood(pairs)):
    print(f"{given.arguments!r}: {ours:.5f} {our_greedy}, transformers {theirs:.5f} {their_greedy}")
    worst = max(worst, abs(ours - theirs))
    assert our_greedy == their_greedy
rolling = requests("loglikelihood_rolling", [(text,) for text in ROLLING])
for ours, theirs in zip(served.loglikelihood_rolling(rolling), local.loglikelihood_rolling(rolling)):
    print(f"rolling: {ours:.5f}, transformers {theirs:.5f}")
    worst = max(worst, abs(ours - theirs))
print(f"largest difference {worst:.2e}")
sys.exit(worst > 1e-3)

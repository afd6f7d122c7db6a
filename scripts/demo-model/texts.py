"""Writes conversations of the demonstration model as plain text: for calibration, and held out for perplexity.

    python scripts/demo-model/texts.py MODEL calibration|held-out COUNT > FILE
"""

import sys

from transformers import AutoTokenizer

from conversations import Teacher

model, kind, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
tokenizer = AutoTokenizer.from_pretrained(model)
teacher = Teacher(seed=4 if kind == "calibration" else 5, held_out=kind == "held-out")
for _ in range(count):
    conversation = teacher.conversation()
    sys.stdout.write(tokenizer.apply_chat_template(conversation["messages"], tools=conversation["tools"], tokenize=False))

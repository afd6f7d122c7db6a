#!/usr/bin/env bash
# A user's whole road, once: train a model, fine-tune it with LoRA, merge, quantise with AWQ, serve, ask.
#
#     scripts/pipeline.sh OUT [PYTHON]
#
# PYTHON has torch, transformers and peft. Without it the model that ships and its adapter stand in for what the two
# trainings make. STEPS and LORA_STEPS say how long to train (60 and 40: to try the road, not to get a good model).
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:?name a new folder for what is made}
python=${2:-}
cli=dist/server/cli.js
[ ! -e "$out" ] || { echo "$out exists: name a new folder" >&2; exit 1; }
mkdir -p "$out"

if [ -n "$python" ]; then
  "$python" scripts/demo-model/train.py "$out/model" --steps "${STEPS:-60}"
  "$python" scripts/demo-model/train_lora.py "$out/model" "$out/adapter" --steps "${LORA_STEPS:-40}"
else
  echo "no PYTHON named: beginning with the model that ships and its adapter"
  cp -r models/quire-demo "$out/model"
  cp -r models/quire-demo-rhymes "$out/adapter"
fi
node $cli merge-lora "$out/model" "$out/adapter" "$out/merged"
node $cli quantize "$out/merged" "$out/awq" --method awq --group-size 64 --calibration models/calibration.txt
node $cli eval perplexity "$out/awq" --text models/held-out.txt

port=$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })')
node $cli serve "$out/awq" --port "$port" --served-model-name pipeline >"$out/server.log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
until curl -fsS "http://127.0.0.1:$port/health" >/dev/null 2>&1; do
  kill -0 "$server" 2>/dev/null || { cat "$out/server.log" >&2; exit 1; }
  sleep 0.1
done
curl -fsS "http://127.0.0.1:$port/v1/chat/completions" -H 'content-type: application/json' \
  -d '{"messages": [{"role": "user", "content": "Who are you?"}], "temperature": 0, "max_tokens": 60}'
echo

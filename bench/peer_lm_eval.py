"""The harness's side of scoring.py: log-likelihoods of (context, continuation) pairs by lm-evaluation-harness's `hf` model.

    python peer_lm_eval.py FOLDER REQUESTS.json BATCH

Runs in an environment of its own and imports nothing of this project. Prints seconds and scores as one line of JSON.
"""

import json
import sys
import time

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

folder, requests, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open(requests, encoding="utf-8") as file:
    pairs = [tuple(pair) for pair in json.load(file)]
model = HFLM(pretrained=folder, dtype="float32", batch_size=batch, device="cpu")
instances = [
    Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=index) for index, pair in enumerate(pairs)
]
began = time.perf_counter()
answers = model.loglikelihood(instances, disable_tqdm=True)
print(json.dumps({"seconds": time.perf_counter() - began, "scores": [float(score) for score, _ in answers]}))

"""Answers a prompt with the model beside this script; needs transformers and compressed-tensors only.

python run_compressed_tensors.py "Once upon a time" [tokens]
"""

import sys
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer, TextStreamer


def main(prompt: str, count: int) -> None:
    folder = Path(__file__).parent
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder, dtype="auto"), AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    model.generate(**tokens, do_sample=False, max_new_tokens=count, streamer=TextStreamer(tokenizer, skip_prompt=True))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 128)

"""Answers a prompt with the model beside this script; needs llama-cpp-python only (or: llama-cli -m model.gguf -p PROMPT).

python run_gguf.py "Once upon a time" [tokens]
"""

import sys
from pathlib import Path

from llama_cpp import Llama


def main(prompt: str, count: int) -> None:
    model = Llama(model_path=str(Path(__file__).parent / "model.gguf"), verbose=False)
    for part in model.create_completion(prompt, max_tokens=count, temperature=0.0, stream=True):
        print(part["choices"][0]["text"], end="", flush=True)
    print()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 128)

"""Answers a prompt with the model beside this script; needs onnxruntime-genai only.

python run_onnx.py "Once upon a time" [tokens]
"""

import sys
from pathlib import Path

import onnxruntime_genai as genai


def main(prompt: str, count: int) -> None:
    model = genai.Model(str(Path(__file__).parent))
    tokenizer = genai.Tokenizer(model)
    tokens = tokenizer.encode(prompt)
    parameters = genai.GeneratorParams(model)
    parameters.set_search_options(do_sample=False, max_length=len(tokens) + count)
    generator = genai.Generator(model, parameters)
    generator.append_tokens(tokens)
    stream = tokenizer.create_stream()
    while not generator.is_done():
        generator.generate_next_token()
        print(stream.decode(generator.get_next_tokens()[0]), end="", flush=True)
    print()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 128)

"""ONNX files: decoder models by onnxruntime-genai's builder, other modules by torch.onnx."""

"""Quantization: weights become integer codes on a grid; one method a file under methods/."""

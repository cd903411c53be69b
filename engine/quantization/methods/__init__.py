"""Methods of quantization; the file name is the name in profiles."""

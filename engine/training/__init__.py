"""Training what compression left: options, one file per method, the steps that call them."""

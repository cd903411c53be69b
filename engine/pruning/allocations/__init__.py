"""One allocation a file. Each defines `allocate(layers, sparsity) -> {layer: sparsity}`."""

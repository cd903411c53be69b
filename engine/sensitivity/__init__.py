"""What each matrix, block and head matters: error curves from the Gram matrices, and what the model's loss moves."""

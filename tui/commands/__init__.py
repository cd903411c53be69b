"""The commands, one file a group: each reads its arguments, calls the engine and prints. Heavy imports stay inside."""

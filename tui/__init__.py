"""The terminal front of compress-tui: the command line (`cli`) and the full-screen app (`app`)."""

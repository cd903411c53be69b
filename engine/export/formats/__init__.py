"""One export format a file. Each defines `write(subject, folder, dtype)`."""

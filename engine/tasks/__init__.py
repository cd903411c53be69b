"""Built-in tasks from the demo package, one a file. Each defines `TASK`, a `TaskOptions`."""

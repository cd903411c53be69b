"""What a run will need, from shapes and one short measurement: memory, disk and time, before the first long work."""

"""One allocation a file. Each defines `allocate(request) -> Plan`; see engine/pruning/allocation.py."""

"""Shipped profiles: each TOML file here is known by its name (`--profile demo`)."""

"""One prompt optimizer a file. Each defines `choose(race) -> winner's index` (see race.py)."""

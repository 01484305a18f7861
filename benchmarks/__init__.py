"""How fast it is, as ratios to a bare SQLite on the same disk in the same run. `make bench` runs it."""

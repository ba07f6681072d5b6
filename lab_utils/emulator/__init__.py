"""The embedded target: partitions, shards, pollers and functions in virtual time."""

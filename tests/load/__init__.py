"""The load tests themselves, tested; and `python -m tests.load`, which runs them against a cluster of two."""

"""The tests; `nox -s test` runs them all."""

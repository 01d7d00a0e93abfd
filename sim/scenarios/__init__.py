"""Scenarios by theme, each a short function under the name it has among the known faults of such layers."""

"""Mutants of the layer, made by rule: is each thing that it does held by a test or a scenario? See ``__main__``."""

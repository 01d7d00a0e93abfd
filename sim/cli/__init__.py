"""The commands of ``python -m sim``, one module for each group of them."""

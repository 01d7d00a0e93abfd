"""The target ``naive``: the design of a real-time layer as it is built at first.

Three shared dictionaries in Redis that are read, changed and written back, a lock that does not ask who holds it, full
lists to everyone at every change. Nothing in here is wrong on purpose; what is wrong is the design.
"""

from sim.targets.naive.app import make_app

__all__ = ["make_app"]

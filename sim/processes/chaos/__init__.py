"""Chaos: hundreds of faults of all kinds, one after the other, on a fleet of processes with steady work.

``crowd`` is the clients and what they do all the time, ``faults`` what is done to them and to the fleet, ``session``
one after the other with the time until all was right again, ``report`` what came of it.
"""

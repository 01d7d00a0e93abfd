"""The tour of the layer: real processes, real clients, one table of what was checked and seen.

`python -m sim.processes.tour`. It knows the layer by its protocol and its command line only (`sim.processes.lab_app` is
the application that it talks to), so whatever goes wrong in the layer is off here, too.
"""

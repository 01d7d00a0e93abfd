"""Load tests: Locust user classes that speak Socket.IO to a running fleet (`locust -f loadtests/`).

Locust imports every file of this folder whose name does not start with an underscore and takes the user and shape
classes it finds there: `users.py` and `shapes.py`. All else lives in files named `_something.py`: the client
(`_packets`, `_frames`, `_http`, `_transports`, `_client`), what a chat user does (`_chat`), what is measured
(`_clock`, `_recorder`, `_ledger`), how it is brought together (`_collector`, `_lab`), and what comes of it
(`_objectives`, `_summary`, `_page`). Nothing here imports the layer or the simulator.
"""

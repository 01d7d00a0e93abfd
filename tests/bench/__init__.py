"""Benchmarks: ``python -m tests.bench`` (``nox -s bench``) measures, compares within one run, prints and saves tables.

``storm`` connects many clients to two real instances at once; ``verbs`` runs the state's verbs as fast as one process
can; ``simulator`` says what simulated runs cost; ``wire`` sets our server beside stock python-socketio, Node's
socket.io and a bare loop of sends. ``report`` writes what they found under reports/, with the machine's description.
Exit status 1 if a figure misses its goal.
"""

"""The wire beside its peers: stock python-socketio, Node's socket.io, and a bare loop of ``send`` calls.

Every server is a process of its own on one core, the load is this process on another. ``rows`` says what is measured.
"""

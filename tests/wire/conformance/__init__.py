"""What Engine.IO protocol 4 and Socket.IO protocol 5 say, each statement as a test, run by raw clients.

A test's name is the statement in our own words; the module is named for the section of the protocol's text. What the
texts leave open and the reference server decides is in `test_requests.py` and where PROTOCOL.md asks for it.
"""

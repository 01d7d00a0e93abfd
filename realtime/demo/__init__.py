"""The chat page of a demo: an application on the layer's public functions, as any other would be.

``routes`` serves the page in ``page/`` and what it asks for, ``posts`` keeps what was said, ``assistant`` answers,
``fetch`` brings the one file that is not ours, the official Socket.IO client.
"""

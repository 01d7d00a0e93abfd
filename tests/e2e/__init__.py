"""End to end: instances as processes over a real Redis, clients in Python and in Node.js."""

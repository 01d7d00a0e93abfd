"""Configurations of load balancers that route by the tag in session ids: `python -m realtime balancer`."""

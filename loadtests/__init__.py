"""Load tests: Locust user classes that speak Socket.IO to a running fleet (`locust -f loadtests/`).

The scenarios come with a later change. Locust imports every file of this folder whose name does not start with an
underscore and takes the user classes it finds there, so helpers live in files named `_something.py`.
"""

"""``python -m realtime inspect``: what the shared state of a fleet holds, and what looks wrong in it.

``realtime.state.survey`` reads everything at one moment and writes nothing; ``view`` makes of it what is asked about,
``findings`` what does not fit together, ``text`` lines for people.
"""

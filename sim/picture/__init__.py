"""Pictures of a run: an HTML page that stands alone, and a still drawing (SVG) of what matters in it.

``recording`` keeps what a run sent and what its clients saw, ``decoding`` and ``redis_words`` put bytes into words,
``axis`` and ``layout`` place them, ``order`` says who overtook whom, ``page`` and ``drawing`` write the files.
"""

from sim.picture.drawing import write_svg
from sim.picture.page import draw_page, write_page
from sim.picture.recording import Recording, record

__all__ = ["Recording", "draw_page", "record", "write_page", "write_svg"]

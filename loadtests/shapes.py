"""Exposes the shape that `--shape` names, and only then: Locust obeys any shape class it finds, not -u, -r and -t."""

from __future__ import annotations

import sys

from loadtests import _options, _shapes

_name = _options.shape_name(sys.argv[1:])
if _name and _name not in _shapes.SHAPES:
    sys.exit(f"--shape {_name}: there is no such shape; there are {', '.join(_shapes.SHAPES)}")
if _name:
    globals()[_shapes.SHAPES[_name].__name__] = _shapes.SHAPES[_name]

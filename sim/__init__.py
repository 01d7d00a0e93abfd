"""Labs that try to break a real-time layer: of real processes now, a deterministic simulator to come."""

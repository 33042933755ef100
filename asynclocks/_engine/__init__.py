"""The engine: one queue for all primitives. `ticket` is below the backends, everything else here above them."""

"""The metric of object and probe, what is held, and all that moves beside them."""

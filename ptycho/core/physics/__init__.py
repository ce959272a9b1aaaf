"""The forward model, its gradients and its losses: the oracle of both backends."""

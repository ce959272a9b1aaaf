"""The second spelling of the configuration: where each of its fields goes."""

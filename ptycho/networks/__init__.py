"""The networks as data: what both backends build, train and archive."""

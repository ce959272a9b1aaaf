"""The report of a run: one HTML file that needs no network, with pictures that a browser can enlarge."""

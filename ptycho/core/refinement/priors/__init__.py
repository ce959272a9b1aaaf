"""What is known of the object before any pattern, and how strongly it is held."""

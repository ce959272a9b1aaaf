"""Pictures, drawn with matplotlib but without pyplot."""

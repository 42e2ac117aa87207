"""What a model is for: its cases, what must hold of an answer, and how answers are scored."""

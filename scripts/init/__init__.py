"""A first models.toml: looks at what is in a folder, writes down what it found, and says what it could not know."""

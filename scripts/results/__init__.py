"""What crosses a file between stages, typed: one definition gives the writer, the reader and the JSON schema."""

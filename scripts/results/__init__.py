"""What crosses a file between stages: typed results, each defined once."""

"""What makes doit trustworthy: keys, manifests, atomic publishing, child processes. It knows nothing of models."""

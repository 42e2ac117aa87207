"""The Foundry Local runtime and its cache."""

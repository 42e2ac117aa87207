"""What Foundry gets: weights, settings, template."""

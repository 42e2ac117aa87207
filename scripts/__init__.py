"""Ingot: fine-tuned weights in, models that Foundry Local serves out. One folder a stage, in the order of the data."""

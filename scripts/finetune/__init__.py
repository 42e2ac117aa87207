"""The trainer of the example adapter: a program beside the pipeline."""

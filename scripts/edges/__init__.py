"""Edge cases and invalid requests, sent to a deployed model: a program beside the pipeline."""

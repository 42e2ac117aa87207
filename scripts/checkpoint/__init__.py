"""Fetch, check and merge weights into one Hugging Face checkpoint."""

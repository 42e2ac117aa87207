"""Is it right, is it good: reference, comparison, domain cases, recommendation."""

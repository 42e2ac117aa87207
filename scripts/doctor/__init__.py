"""Is this machine ready, and is what is configured sound?"""

"""What every stage may import."""

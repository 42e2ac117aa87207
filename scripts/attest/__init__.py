"""What a package was made of, told beside it: bill of materials, provenance, card with figures, signature."""

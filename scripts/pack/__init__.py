"""A model to hand on: everything of one precision as an archive with an installer, or as an OCI image layout."""

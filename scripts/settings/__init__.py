"""models.toml and recipes.toml as frozen, typed settings."""

"""What a user may say and a stage acts on, each defined once: recipes' passes and workflows, gates, sampling."""

"""Every JSON of a build, rendered."""

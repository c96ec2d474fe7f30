"""What a run found, as pages."""

"""Models that fusemin is shown on."""

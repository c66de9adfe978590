"""What maintainers run. Nothing of it is in the wheel."""

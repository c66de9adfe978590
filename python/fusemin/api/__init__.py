"""What users call: `minimize`, `Minimizer`, `minimize_stateless`, `fuse`, `explain`."""

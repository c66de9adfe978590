"""The optimization loop: its steps, their arrangement, traces, seeds, convergence."""

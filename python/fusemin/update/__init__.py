"""One update: who takes it, the call of the op, its gradients."""

"""From a zoo to its sparse twins: magnitude pruning and variational dropout."""

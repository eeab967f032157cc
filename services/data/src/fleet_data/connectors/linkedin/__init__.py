"""LinkedIn: who somebody is there, and nothing else."""

"""The HTTP routes, one file per resource. They turn wire shapes into calls of the service and back, and do nothing else."""

"""Reading a Kubernetes cluster: lists as the tables kubectl prints, and single objects."""

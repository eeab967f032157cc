"""The fleet's scaling policy, and what it would do: the HPA controller's algorithm without a cluster."""

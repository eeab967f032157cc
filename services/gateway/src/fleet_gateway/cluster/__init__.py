"""Services that say by Kubernetes labels that they belong to the fleet."""

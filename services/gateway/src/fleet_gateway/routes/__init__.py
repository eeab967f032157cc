"""The routing table as Gateway API resources, for a platform that routes with its own data plane."""

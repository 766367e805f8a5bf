"""A node without a container runtime: pods that the API server knows run as processes of this machine."""

"""A resilience sidecar: retries, breakers and load balancing for HTTP and gRPC."""

__version__ = "0.1.0"

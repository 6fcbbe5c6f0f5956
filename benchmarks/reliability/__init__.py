"""The same faults through the sidecar and other proxies, side by side: see benchmarks/README.md."""

"""What the service counts of itself, and how it is named. runtime/metrics_port.py serves it to Prometheus."""

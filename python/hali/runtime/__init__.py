"""L1: what every service runs on: logs, channels, supervision, child processes."""

"""L1: what every service runs on: logs, channels, supervision, child processes, files that survive a crash."""

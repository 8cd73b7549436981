"""L6: hali under the service manager of the system (systemd, launchd, Windows' Task Scheduler, or our own keeper), and the doctor."""

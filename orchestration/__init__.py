"""When things run: definitions, jobs, schedules, sensors, the command line."""

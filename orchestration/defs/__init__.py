"""Jobs, schedules, sensors, policies and resources: what both code locations are put together from."""

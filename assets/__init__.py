"""What is made: thin Dagster assets, and the settings they share."""

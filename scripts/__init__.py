"""What `make` runs around the project: installing, locking, and asking what the locks hold."""

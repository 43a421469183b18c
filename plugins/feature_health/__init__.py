"""The pages of Feature health: documents of `features.health` as HTML, JSON and CSV, inside Airflow's api-server."""

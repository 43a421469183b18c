"""What the containers of docker-compose.yml run beside Airflow and MLflow: their preparation and health checks."""

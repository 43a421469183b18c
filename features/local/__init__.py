"""Everything that runs on the machine at hand: the embedded server, Airflow and MLflow, the demo."""

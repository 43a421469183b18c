"""Skewless: features defined once in dbt, materialised, watched and retrained by Airflow."""

__version__ = "0.1.0"

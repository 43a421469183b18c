"""From a Dag run or a task instance of Airflow to the page that says what it did."""

from fastapi import APIRouter

router = APIRouter()

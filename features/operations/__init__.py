"""Keeping it running: backups of the warehouse, of Airflow's and MLflow's databases and of the models' files, and back.

databases     which databases there are, and PostgreSQL's own tools that read and write them
manifest      what a backup holds, and whether all of it is there
roles         whom relations belong to and who may read them, on a server that may not know these roles
registry      where MLflow says that models are, and which one is champion
artefacts     the models' files
backup, restore
"""

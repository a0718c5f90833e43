"""Launches: the plan of a study's runs, and the executors that train them."""

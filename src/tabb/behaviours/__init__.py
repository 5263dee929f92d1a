"""Behaviour policies: who makes the data sets of tasks that have none at hand. They learn and plan in the simulator."""

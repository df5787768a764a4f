"""Suites: which tasks agents are measured on, the runs, their scores with intervals, and the reports."""

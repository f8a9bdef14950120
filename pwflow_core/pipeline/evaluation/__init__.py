"""Alarms against labels that people gave: reading labels, and what was found and missed."""

"""The orchestration of pwflow: assets, jobs and schedules that call `pwflow_core`, and the command line."""

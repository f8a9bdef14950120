"""What people and runs have decided: the ledger of verdicts, and the alarms that were confirmed as normal.

It lies below those who ask it: regimes, flows and drift write their answers through `verdicts`.
"""

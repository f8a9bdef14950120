"""The data themselves: machines and their rhythm, sensors and what they read, what was refused, and what is doubtful.

`profile` ties it together for readings that are in a warehouse; `doubts` says what a person should look at.
"""

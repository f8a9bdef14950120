"""Notifying: people and programs are told what a run found, each thing once.

`record` draws what there is to tell from the warehouse, `outbox` keeps it and how far it has come, `delivering` puts it
together and sends it, `wording` has the words and `channels` the ways out.
"""

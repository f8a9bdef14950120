"""One flow per regime: what it learns from, its training, its challenge, and which version is in use.

`training_sets` fetches readings, `training` fits, `challenges` compares with the flow in use, `registering` stores,
`registry` promotes and rolls back, and `retention` deletes the files that nothing needs.
"""

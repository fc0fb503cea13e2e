"""The other workers of one engine: whose a task is, and asking them.

It may import tasks and base only. The supervisor says which workers live (`Peers.update`); intake, api and
process ask them (`Peers.ask`), and `engine.api.worker_api` answers there.
"""

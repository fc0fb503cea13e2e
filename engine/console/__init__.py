"""The operators' page: its files, and the stream of events that keeps it live.

It may import what is below the process; only the process imports it. Requests for the page enter here, and
leave as files; what the page shows and does otherwise, it asks the same routes for as every client.
"""

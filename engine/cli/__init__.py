"""The command line: arguments, submitting, views, the client of the HTTP interface, migration of stores.

The top floor. Commands that only talk to an engine import nothing but the standard library.
"""

"""Reaching hosts: SSH, the agent's answers, the deploy lock, the journal."""

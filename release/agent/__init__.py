"""What runs on hosts.

Standard library only, Python 3.8 and newer. The lowest room; imports nothing of ours.
"""

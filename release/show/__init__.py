"""What a person sees of a run on hosts: live lines, tables, the report, or one JSON document.

``screen.Screen`` is the `release.rollout.display.Display` that the tasks hand to the rollout. It imports the
rollout's reports and the hosts' outcomes; only tasks import it.
"""

"""From the wish to the plan to the hosts: plan, gates, steps, conduct, rollback, overview."""

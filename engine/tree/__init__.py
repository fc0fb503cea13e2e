"""The tree: a node that is itself an engine, and what this engine answers one that it is a node of.

Root side, of each ``driver = "engine"`` node: a `desk` takes what waits in the node's channels, hands it down
task by task and asks what became of it, over a `link`; an answer counts when its `seal` shows that the child
gave it. Child side: `routes` take what is handed down into the intake, and answer with `reports`.
`words` is the protocol; docs/decisions/0022 tells why it is so.

Subtasks come from `engine.nodes` (`Channel`), which takes back what became of them as a cache's answers. May
import api, nodes, intake, tasks, config and base; only `engine.process` puts it in.
"""

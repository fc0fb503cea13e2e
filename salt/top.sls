# top.sls: every host that these states are applied to is a host of the engine.

base:
  "*":
    - engine

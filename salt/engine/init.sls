# engine/init.sls: all of a host of the engine but the releases, which `unpack` and `reload` bring.
# Pillar: engine (mapping), as in salt/pillar.example. engine.clean takes it all back and is not included.

include:
  - engine.install
  - engine.config
  - engine.service
  - engine.tuning
  - engine.nginx
  - engine.logging
  - engine.outbox

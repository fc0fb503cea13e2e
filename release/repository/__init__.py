"""Published artefacts and their signed index, on any transport.

``repository`` is the way in: ``publish`` takes an artefact, ``fetch`` gives one to whoever deploys it. An
``index`` says what there is; ``changes`` are the new ones made of it; ``signed`` reads it with distrust
(``signing``, ``serials``) and writes it last, under a ``lock``. Imports only what an artefact says of itself
(`release.build.manifest`).
"""

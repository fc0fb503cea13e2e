"""``kind = "cdni"``: the CDNI Control Interface / Triggers (RFC 8007), by which another CDN has us purge.

A request of aiohttp (``door``, ``routes``) holds a command (``command``); its URLs, patterns and collection
ids become the bodies of ordinary tasks, one for each kind of targets (``planning``, ``patterns``). Those are
handed in, and what was asked for is kept beside them (``creating``); what they come to together (``records``)
is told in the RFC's words (``telling``), until the trigger is over (``ending``, ``sweeping``).
"""

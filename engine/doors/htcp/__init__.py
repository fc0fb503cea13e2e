"""``kind = "htcp"``: CLR and TST of HTCP (RFC 2756) over UDP, as MediaWiki and Squid send them.

``messages`` reads and writes datagrams, ``signing`` checks and makes their signatures with the secrets of
``key_file``; ``receiver`` has the socket, ``door`` decides about each datagram, ``batches`` makes tasks of
those that come together, and ``tally`` counts what became of all of them.
"""

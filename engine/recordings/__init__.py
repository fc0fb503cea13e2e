"""Recordings of traffic, in GoReplay's file format: read, written, and sent to an engine once more.

``gor`` has the format, ``messages`` takes the HTTP of an entry apart, ``rewriting`` makes of a recorded
request one that may be sent again, ``player`` sends it at its time, and ``report`` compares what comes back
with what was recorded. Recordings enter as files and leave as requests and a report.

How they come to be: ``tap`` sees requests and answers in an engine, ``packing`` takes secrets out of them and
packs them into ``frames``; in the command that records, ``encoder`` makes entries of those, ``ordering`` puts
them in the order of their times, and ``file`` writes them.

May import ``base`` and the errors.
"""

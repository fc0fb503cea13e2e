"""Three real engines on a real Redis, and everything between them that can fail.

``python -m tests.model --processes --redis single|sentinel|cluster`` makes rounds (`storm`): clients hand
tasks in without pause while faults of a timetable (`timetable`, told by the seed) happen to engines, to Redis
and to caches; then everything is mended, and what became of each task is judged. Engines and servers run in
namespaces of one private network (`network`), so any two of them can be cut off from each other.
"""

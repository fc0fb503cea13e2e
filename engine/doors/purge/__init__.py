"""``kind = "purge"``: what content management systems and frameworks send to caches.

``heads`` reads a request strictly, ``wording`` tells what each client means by it, ``connection`` has the
bytes, ``desk`` what the connections of one door share, ``access`` who may, ``texts`` the answers.
"""

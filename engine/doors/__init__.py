"""The doors: ports that speak somebody else's protocol, so that its clients need only another address.

Bytes of a client come in; what they ask for goes to `engine.intake.admission` as the body of an ordinary task
(`submitting.Submitting`), and what became of it goes out in the protocol's own words. A protocol is one
class that makes connections (`ports.Door`); the sockets, the gates and their end are the same for all
(`ports.DoorPorts`). ``purge`` is what content management systems and frameworks send to caches: ``heads``
reads a request strictly, ``wording`` tells what each client means by it, ``connection`` has the bytes.

May import the intake and all that is below it.
"""

"""The doors: protocols of others, so that their clients need only another address.

What a client asks for goes to `engine.intake.admission` as the body of an ordinary task
(`submitting.Submitting`), and what became of it goes out in the protocol's own words. A protocol is a
sub-package with one class that makes connections (`ports.Door`) or takes datagrams (`ports.DatagramDoor`);
sockets, gates and their end are the same for all (`ports.DoorPorts`), and so are the addresses that may
purge (`allow`) and the hosts that a client may leave out (`hosts`). Some protocols have no clients that
connect: the engine reads (`readers.Reader`).

May import the intake and all that is below it.
"""

"""The savers: threads that write what the engine must not lose.

What lives here: `Saver` (the loop's side of one thread: group commit, retries), `OwnRecords` (what the engine
hands it besides accepted tasks), `Work` (what one batch holds, pure), `SaverThread`, `SaverPool`, and
`StoreReader`, the threads that read.

It may import the store's interface, the model and what is below; it never knows which store it writes.

In: `Saver.push` (intake), the methods of `OwnRecords` (delivery, notify, recovery, api). Out: `Store.commit`
on the thread, then `Sinks` on the loop: to the intake, which answers clients, and to the delivery.
"""

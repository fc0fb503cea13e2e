"""The ways to a repository, alternatives of one interface: ``transport.Transport``.

``connect`` takes the URL of a repository and returns the way to it: ``folder``, ``ssh`` (SFTP) or ``http``
(to read). A transport moves files and knows nothing of what they mean; it imports errors and settings only.
"""

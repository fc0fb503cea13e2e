"""From a commit to an artefact: version, wheels, archive, self-test."""

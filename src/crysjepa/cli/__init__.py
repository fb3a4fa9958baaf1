"""The command line: thin verbs over :mod:`crysjepa.api`."""

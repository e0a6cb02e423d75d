"""The composition root: settings, command line, app assembly, embedded services."""

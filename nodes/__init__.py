"""The shell: network, TLS, database, command line, clock and logs around the five cores."""

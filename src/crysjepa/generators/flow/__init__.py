"""Our generator: a flow over orbits of equivalent sites."""

"""How fast the thing underneath is: what nothing built on it can beat."""

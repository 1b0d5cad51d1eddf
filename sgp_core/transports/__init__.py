"""The ways in which vectors travel between workers, behind one interface and one registry. Imports without torch."""

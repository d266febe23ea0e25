"""Fields whose truth is known: what a flow makes of them beside what is right."""

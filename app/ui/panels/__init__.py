"""Large parts of the window, each built from widgets and bound to models."""

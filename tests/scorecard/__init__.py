"""The ML Test Score: what counts, where it is read, what comes of it."""

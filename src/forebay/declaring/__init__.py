"""From a function to a handler and where its work comes from."""

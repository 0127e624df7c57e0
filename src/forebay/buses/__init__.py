"""Engines that carry messages between services. Each is a room of its own and knows no other."""

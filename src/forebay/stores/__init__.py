"""Engines that remember. Each is a room of its own and knows no other; `forebay.app` picks one by URL scheme."""

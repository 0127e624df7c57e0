"""Between Python values and bytes: JSON by msgspec, the signatures of handlers, the stored envelope. No I/O."""

"""An order service at work: `make demo`. Begin with README.md here, then read services/billing.py."""

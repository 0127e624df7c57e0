"""The five subscribers. Each is a program of its own: `forebay worker examples.orders.services.billing:app`."""

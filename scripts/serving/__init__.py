"""Programs for whoever uses what was deployed: list it, talk to it, serve it, take it down. No stage imports them."""

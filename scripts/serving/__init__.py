"""Programs for whoever uses what was deployed: list it, talk to it, serve it, hand it on, take it down."""

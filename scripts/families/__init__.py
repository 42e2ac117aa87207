"""Which families of models can be converted, read from the installed builder and from our bridges to it."""

"""All that knows doit: how steps become tasks, doit's commands as Ingot extends them."""

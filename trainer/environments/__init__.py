"""Tasks and the environments in which agents are rolled out on them."""

"""What people's clients need to be told so that they use this server: a target each."""

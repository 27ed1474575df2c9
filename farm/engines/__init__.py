"""The ways in which chunks reach machines. Each gives the dispatcher's chunks to something that runs workers or sessions."""

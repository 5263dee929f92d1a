"""What rules fit before training: models of the domains, autoencoders, ensembles, transport."""

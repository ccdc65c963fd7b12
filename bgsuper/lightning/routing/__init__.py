"""What a node knows of the network: the graph, how gossip fills it, and how it is kept."""

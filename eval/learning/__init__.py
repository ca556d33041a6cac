"""Head weights learned from rows, by gradient through the composed flow: bounds for what is found without labels."""

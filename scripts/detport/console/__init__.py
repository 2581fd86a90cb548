"""What a person or a log sees of a run while it goes on."""

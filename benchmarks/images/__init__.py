"""Images: MoDE beside one network, an ensemble and boosted trees; alpha; the speed of routing."""
